"""L2ViT as the encoder of SimMIM (arXiv 2111.09886)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmvitlin.models.backbones.l2vit import STEM_STRIDE, L2ViT
from mmvitlin.registry import MODELS, register


@register(MODELS)
class SimMIML2ViT(L2ViT):
    """L2ViT for mmpretrain's `SimMIM`: a learned token stands for masked patches (2111.09886).

    The token replaces the output of the stem at masked patches. The stem's convolutions overlap by
    three pixels, so that the pixels of masked patches are set to 0, the mean colour, before it:
    nothing of them reaches other patches. The other weights are those of `L2ViT`, and
    `dict(type='Pretrained', checkpoint=..., prefix='backbone.')` starts one.

    Its arguments and attributes are those of `L2ViT`. `mmpretrain.SimMIMMaskGenerator` takes
    `model_patch_size=4`, the stride of the stem, and `mmpretrain.SimMIMLinearDecoder`
    `encoder_stride=32`.
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = (3,),
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(
            arch=arch,
            in_channels=in_channels,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        token = nn.init.trunc_normal_(torch.empty(self.embed_dims[0]), std=0.02)
        self.mask_token = nn.Parameter(token)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the maps of masked images.

        Args:
            images: (B, in_channels, H, W).
            mask: true or 1 where a patch of 4 x 4 pixels is masked, (B, H/4, W/4), rounded up; None
                masks nothing.

        Returns:
            The maps of `L2ViT`.

        Raises:
            ValueError: images or a mask of another shape.
        """
        if mask is None:
            return super().forward(images)
        self.check_images(images)
        B, _, H, W = images.shape
        shape = B, -(-H // STEM_STRIDE), -(-W // STEM_STRIDE)
        if tuple(mask.shape) != shape:
            raise ValueError(
                f'images of shape {tuple(images.shape)} need a mask of shape {shape}, one value '
                f'per {STEM_STRIDE} x {STEM_STRIDE} pixels, got {tuple(mask.shape)}'
            )
        masked = mask.bool()
        pixels = masked.repeat_interleave(STEM_STRIDE, 1).repeat_interleave(STEM_STRIDE, 2)
        x = self.downsamples[0](images.masked_fill(pixels[:, None, :H, :W], 0))
        x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        return self.run_stages(x, (H, W))

    @property
    def allowed_missing(self) -> tuple[str, ...]:
        """Those of `L2ViT`, and the mask token, which only SimMIM has."""
        return (*super().allowed_missing, 'mask_token')

    def no_weight_decay(self) -> set[str]:
        """Return the name of the mask token."""
        return {'mask_token'}
