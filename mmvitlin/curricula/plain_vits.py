"""Tiny plain vision transformers of mmpretrain and timm, and the curricula that train them."""

from typing import Any, NamedTuple

from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmvitlin.curricula.model_parts import find_backbone
from mmvitlin.curricula.plan import Size, count_stages
from mmvitlin.curricula.token_expansion.token_reduction import Expansion
from mmvitlin.errors import ConfigError

ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)
TINY = dict(arch=ARCH, img_size=32, patch_size=4)
TIMM_TINY = dict(img_size=32, patch_size=4, embed_dim=24, depth=3, num_heads=2, num_classes=10)
SMALLER_IMAGES: Size = (24, 24)
EXPANSION = Expansion((0.5, 0.75, 1.0), 0.25, 2, 'cosine')  # as the hook's


class PlainViT(NamedTuple):
    """A model, and the reason why curricula cannot train it, if any.

    Attributes:
        config: config of a tiny model, with the settings that fine-tuning uses.
        tied_to: part of the layers that depends on the grid; None for layers that take any tokens.
        any_size: whether it takes images of other sizes than `img_size`.
    """

    config: dict
    tied_to: str | None = None
    any_size: bool = True


def _vit(kind: str = 'VisionTransformer', **settings: Any) -> dict:
    return dict(type=f'mmpretrain.{kind}', **(TINY | settings))


def _timm(name: str, **settings: Any) -> dict:
    # timm's models take images of one size unless they are told otherwise.
    settings = TIMM_TINY | settings | dict(dynamic_img_size=True)
    return dict(type='mmpretrain.TimmClassifier', model_name=name, **settings)


PLAIN_VITS = {
    'ViT, DeiT': PlainViT(_vit()),
    'DeiT, distilled': PlainViT(_vit('DistilledVisionTransformer')),
    'DeiT-3': PlainViT(_vit('DeiT3')),
    'MAE, fine-tuning': PlainViT(_vit(out_type='avg_featmap', final_norm=False)),
    'MoCo v3': PlainViT(_vit('MoCoV3ViT')),
    'DINOv2': PlainViT(_vit(layer_scale_init_value=1e-5)),
    'CLIP': PlainViT(_vit(pre_norm=True)),
    'BEiT, BEiT-2': PlainViT(
        _vit('BEiTViT'), 'a position bias between all pairs of patches', any_size=False
    ),
    'BEiT with absolute positions': PlainViT(
        _vit('BEiTViT', use_abs_pos_emb=True, use_rel_pos_bias=False)
    ),
    'EVA-02': PlainViT(_vit('ViTEVA02'), 'rotary positions of all patches'),
    'ViT-SAM': PlainViT(
        _vit('ViTSAM', arch=ARCH | dict(global_attn_indexes=[2]), window_size=4), 'windows'
    ),
    'SimMIM, fine-tuning (Swin)': PlainViT(
        dict(type='mmpretrain.SwinTransformer', arch='tiny', img_size=32, pad_small_map=True),
        'windows',
    ),
    'ViT of timm': PlainViT(_timm('vit_tiny_patch16_224')),
    'ViT of timm with registers, mean of patches': PlainViT(
        _timm('vit_tiny_patch16_224', reg_tokens=4, global_pool='avg')
    ),
    'DeiT of timm, distilled': PlainViT(_timm('deit_tiny_distilled_patch16_224')),
    'EVA-02 of timm': PlainViT(_timm('eva02_tiny_patch14_224'), 'rotary positions of all patches'),
}


def build(name: str) -> nn.Module:
    """Build one of `PLAIN_VITS`."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(PLAIN_VITS[name].config)


def refused_by_token_expansion(model: nn.Module) -> str | None:
    """Return the error that token expansion raises for a model, or None if it can train it."""
    return _error(model, EXPANSION, None)


def refused_by_efficient_train(model: nn.Module) -> str | None:
    """Return the error of a model on smaller images, or None if EfficientTrain can train it."""
    return _error(model, None, SMALLER_IMAGES)


def table() -> str:
    """Try all of `PLAIN_VITS`, and return the result as a table in Markdown."""
    lines = ['| model | token expansion | EfficientTrain |', '|---|---|---|']
    for name, vit in PLAIN_VITS.items():
        model = build(name)
        cells = (
            'yes' if refuse(model) is None else f'no: {vit.tied_to}'
            for refuse in (refused_by_token_expansion, refused_by_efficient_train)
        )
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _error(model: nn.Module, expansion: Expansion | None, size: Size | None) -> str | None:
    try:
        count_stages(find_backbone(model), expansion, size)
    except ConfigError as error:
        return str(error)
    return None
