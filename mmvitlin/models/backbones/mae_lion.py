"""LION as the encoder of a masked autoencoder (arXiv 2111.06377)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmvitlin.checks import in_range
from mmvitlin.layers.position_embedding import sine_positions
from mmvitlin.models.backbones.lion import LION
from mmvitlin.ops.decayed_attention import CHUNK_SIZE
from mmvitlin.ops.random_mask import random_mask
from mmvitlin.registry import MODELS, register


@dataclass(frozen=True)
class KeepTokens:
    """Token reduction that keeps chosen tokens.

    Attributes:
        keep_indices: their positions (B, K) in the whole sequence, prefix tokens included.
    """

    keep_indices: Tensor

    def shorten(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce (B, L, C) to (B, K, C); return the keep indices too."""
        index = self.keep_indices[..., None].expand(-1, -1, x.shape[2])
        return x.gather(1, index), self.keep_indices


@register(MODELS)
class MAELION(LION):
    """LION for mmpretrain's `MAE`: its layers see the patches that no mask covers (2111.06377).

    Masked patches leave the sequence before the first layer. Scans run over the kept patches in
    their old order, so that the decay between two of them counts the kept patches in between.
    Positions are those of the whole image. The weights are those of a `LION` with `pos_emb=True`
    and a class token: `dict(type='Pretrained', checkpoint=..., prefix='backbone.')` starts one.

    `mmpretrain.MAEPretrainDecoder` and `mmpretrain.MAEPretrainHead` take square images of whole
    patches.

    Args:
        mask_ratio: part of the patches that is masked, at random for every image.
        arch, img_size, patch_size, in_channels, mask_type, order, format, chunk_size, train_gates,
            drop_path_rate, frozen_stages, with_cp, init_cfg: as in `LION`. The position embedding
            is two-dimensional sines and cosines, and is not trained.

    Raises:
        ValueError: as `LION`; or `mask_ratio` is not in [0, 1).
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        mask_ratio: float = 0.75,
        mask_type: str = 'Decay',
        order: str = 'Normal',
        format: str = 'auto',
        chunk_size: int = CHUNK_SIZE,
        train_gates: bool = True,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            mask_type=mask_type,
            order=order,
            format=format,
            chunk_size=chunk_size,
            train_gates=train_gates,
            pos_emb=True,
            out_type='raw',
            drop_path_rate=drop_path_rate,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        in_range('mask_ratio', mask_ratio, 0, 1)
        self.mask_ratio = mask_ratio
        weight = self.pos_embed.weight.requires_grad_(False)
        prefix = weight.new_zeros(1, self.num_prefix_tokens, self.embed_dims)
        sines = sine_positions(self.pos_embed.grid, self.embed_dims).to(weight)
        weight.copy_(torch.cat([prefix, sines[None]], 1))

    def forward(
        self, images: Tensor, mask: bool | Tensor | None = True
    ) -> tuple[Tensor, Tensor, Tensor] | tuple[Tensor, ...]:
        """Compute the tokens of the patches that are not masked.

        Args:
            images: (B, in_channels, H, W).
            mask: True draws a mask; a mask (B, N) is used as it is, true or 1 where one of the N
                patches is masked, row by row; None or False masks nothing.

        Returns:
            With a mask, what `mmpretrain.MAE` reads: the class token and the K kept patches in
            their order, (B, 1 + K, C); the mask (B, N), float, 1 where masked; and for each patch
            its place in [kept patches, masked patches], (B, N). Without, the tuple of `LION` with
            `out_type='raw'`.

        Raises:
            ValueError: images or a mask of another shape, or a mask that does not keep as many
                patches in every image.
        """
        if mask is None or mask is False:
            return super().forward(images)
        self.check_images(images)
        tokens = self.embed(images)
        shape = images.shape[0], tokens.grid[0] * tokens.grid[1]
        if mask is True:
            num_kept = int(shape[1] * (1 - self.mask_ratio))
            mask = random_mask(*shape, num_kept, images.device)
        else:
            num_kept = count_kept(mask, shape)
        order = mask.bool().long().argsort(dim=1, stable=True)  # kept patches first
        prefix = order.new_tensor(range(self.num_prefix_tokens)).expand(shape[0], -1)
        kept = torch.cat([prefix, order[:, :num_kept] + self.num_prefix_tokens], 1)
        self.reduce_tokens(tokens, KeepTokens(kept))
        (latent,) = self.run_layers(tokens)
        return latent, mask.to(latent), order.argsort(1)


def count_kept(mask: Tensor, shape: tuple[int, int]) -> int:
    """Count the patches that a mask keeps in each image.

    Raises:
        ValueError: the mask is not of `shape`, or keeps more patches in one image than in another.
    """
    if tuple(mask.shape) != shape:
        raise ValueError(
            f'{shape[0]} images of {shape[1]} patches need a mask of shape {shape}, got '
            f'{tuple(mask.shape)}'
        )
    kept = set((~mask.bool()).sum(1).tolist())
    if len(kept) > 1:
        raise ValueError(
            f'a mask must keep as many patches in each image of a batch, got {sorted(kept)}: mask '
            'the same number in each'
        )
    return kept.pop()
