"""LV-ViT: a plain ViT for token labeling, `All Tokens Matter` (arXiv 2104.10858)."""

from collections.abc import Sequence
from functools import partial
from numbers import Real

from torch import Tensor

from mmvitlin.checks import positive_int
from mmvitlin.layers.conv_stem import ConvStem
from mmvitlin.layers.self_attention import SelfAttention
from mmvitlin.models.arch import resolve_arch
from mmvitlin.models.backbones.plain_vit import READOUTS, PlainViT, Readout, Tokens
from mmvitlin.ops.mix_tokens import draw_box, swap_box
from mmvitlin.ops.token_expansion import restore_tokens
from mmvitlin.registry import MODELS, register


def _class_and_patches(x: Tensor, tokens: Tokens) -> tuple[Tensor, ...]:
    box = () if tokens.mix_box is None else (tokens.mix_box,)
    return x[:, 0], x[:, 1:].unflatten(1, tokens.grid), *box


def _restored(readout: Readout, x: Tensor, tokens: Tokens) -> Tensor | tuple[Tensor, ...]:
    """Apply a readout of all tokens, with zeros for dropped ones."""
    if tokens.keep_indices is not None:
        rows, columns = tokens.grid
        x = restore_tokens(x, tokens.keep_indices, tokens.num_prefix_tokens + rows * columns)
    return readout(x, tokens)


@register(MODELS)
class LVViT(PlainViT):
    """LV-ViT, the vision transformer of token labeling (arXiv 2104.10858).

    A plain ViT with a stem of four convolutions, residual branches that are divided by a constant
    (skip_lam), no bias in queries, keys and values, and narrower MLPs. `PlainViT` documents the
    other arguments, `forward` and errors.

    After token reduction, outputs of all tokens are zero for dropped tokens.

    Args:
        arch: 'tiny', 'small', 'medium', 'large', or a dict of `embed_dims`, `num_layers`,
            `num_heads`, `feedforward_channels`, `skip_lam` and `stem_channels`, the channels
            between the convolutions of the stem.
        patch_size: an even number.
        mix_token: in training, swap the patches of a random box with those of the batch in reverse
            order, after the stem (MixToken). It applies to the output 'cls_and_patches' only, which
            contains the box.
        out_type: one of PlainViT's, or 'cls_and_patches' for `mmvitlin.TokenLabelHead`: a tuple of
            the class token (B, C), the patches (B, rows, columns, C) and, with MixToken, the box
            (rows, columns), True inside.
    """

    arch_zoo = {
        'tiny': dict(
            embed_dims=240,
            num_layers=12,
            num_heads=4,
            feedforward_channels=720,
            skip_lam=1.0,
            stem_channels=64,
        ),
        'small': dict(
            embed_dims=384,
            num_layers=16,
            num_heads=6,
            feedforward_channels=1152,
            skip_lam=2.0,
            stem_channels=64,
        ),
        'medium': dict(
            embed_dims=512,
            num_layers=20,
            num_heads=8,
            feedforward_channels=1536,
            skip_lam=2.0,
            stem_channels=64,
        ),
        'large': dict(
            embed_dims=768,
            num_layers=24,
            num_heads=12,
            feedforward_channels=2304,
            skip_lam=3.0,
            stem_channels=128,
        ),
    }
    readouts = READOUTS | {
        'featmap': partial(_restored, READOUTS['featmap']),
        'raw': partial(_restored, READOUTS['raw']),
        'cls_and_patches': partial(_restored, _class_and_patches),
    }
    norm_eps = 1e-5

    def __init__(
        self,
        arch: str | dict = 'small',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        mix_token: bool = True,
        with_cls_token: bool = True,
        out_type: str = 'cls_and_patches',
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        settings = resolve_arch(self, arch)
        skip_lam: float = settings['skip_lam']
        stem_channels: int = settings['stem_channels']
        positive_int('stem_channels of an arch', stem_channels)
        if not isinstance(skip_lam, Real) or isinstance(skip_lam, bool) or not skip_lam > 0:
            raise ValueError(f'skip_lam of an arch must be a number above 0, got {skip_lam!r}')
        if isinstance(patch_size, int) and patch_size % 2:
            raise ValueError(
                f'patch_size must be even, since the stem halves images first, got {patch_size}'
            )
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            pos_emb=True,
            with_cls_token=with_cls_token,
            out_type=out_type,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
            attention=partial(SelfAttention, qkv_bias=False),
            patch_embedding=partial(ConvStem, stem_channels=stem_channels),
            skip_lam=skip_lam,
        )
        self.mix_token: bool = mix_token

    def embed(self, images: Tensor) -> Tokens:
        if not (self.training and self.mix_token and self.out_type == 'cls_and_patches'):
            return super().embed(images)
        patches = self.patch_embed(images)
        box = draw_box(patches.shape[1], patches.shape[2], patches.device)
        tokens = self.embed_patches(swap_box(patches, box))
        tokens.mix_box = box
        return tokens
