"""Converter of the original DeiT's checkpoints to mmpretrain's names.

DeiT's configs take mmpretrain's VisionTransformer and a linear head; with a distillation token,
its DistilledVisionTransformer and DeiTClsHead.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from mmvitlin.checkpoints.converters.converter import Converter, Weights, build_linear_head
from mmvitlin.checkpoints.converters.plain_vit import (
    HEAD_WIDTH,
    count_layers,
    read_shape,
    square_side,
)
from mmvitlin.checkpoints.converters.renaming import rename_weights
from mmvitlin.registry import MODELS

BACKBONE = (
    (r'(cls_token|dist_token|pos_embed)$', r'backbone.\1'),
    (r'patch_embed\.proj\.', r'backbone.patch_embed.projection.'),
    (r'blocks\.(\d+)\.norm([12])\.', r'backbone.layers.\1.ln\2.'),
    (r'blocks\.(\d+)\.attn\.', r'backbone.layers.\1.attn.'),
    (r'blocks\.(\d+)\.mlp\.fc1\.', r'backbone.layers.\1.ffn.layers.0.0.'),
    (r'blocks\.(\d+)\.mlp\.fc2\.', r'backbone.layers.\1.ffn.layers.1.'),
    (r'norm\.', r'backbone.ln1.'),
)
HEAD = ((r'head\.', r'head.fc.'),)
DISTILLED_HEAD = ((r'head\.', r'head.layers.head.'), (r'head_dist\.', r'head.layers.head_dist.'))


def convert_deit(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original classifier's weights, as `rename_weights`."""
    head = DISTILLED_HEAD if 'dist_token' in state_dict else HEAD
    return rename_weights(state_dict, (*BACKBONE, *head), 'DeiT')


def is_distilled(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether converted weights have a distillation token."""
    return 'backbone.dist_token' in state_dict


def read_deit_arch(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read the `arch` off the shapes of converted weights; heads leave no trace and are 64 wide.

    Raises:
        CheckpointError: a weight that the widths are read from is missing.
    """
    width = read_shape(state_dict, 'backbone.cls_token', 3)[-1]
    ffn = read_shape(state_dict, 'backbone.layers.0.ffn.layers.0.0.weight', 2)[0]
    return dict(
        embed_dims=width,
        num_layers=count_layers(state_dict, 'backbone.layers.'),
        num_heads=1 if width % HEAD_WIDTH else width // HEAD_WIDTH,
        feedforward_channels=ffn,
    )


def read_deit_settings(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read `patch_size`, `in_channels` and `img_size`, the side of square images.

    Raises:
        CheckpointError: a weight that they are read from is missing.
    """
    name = 'backbone.patch_embed.projection.weight'
    _, in_channels, patch_size, _ = read_shape(state_dict, name, 4)
    tokens = read_shape(state_dict, 'backbone.pos_embed', 3)[1]
    patches = tokens - (2 if is_distilled(state_dict) else 1)
    return dict(
        patch_size=patch_size,
        in_channels=in_channels,
        img_size=square_side(patches, patch_size),
    )


def name_deit_archs() -> dict[str, dict]:
    """Name DeiT's sizes as mmpretrain does; they are those of ViT-LLaMA's transformer."""
    zoo = MODELS.get('ViTLLaMA').arch_zoo
    return {f'deit-{name}': settings for name, settings in zoo.items()}


def build_deit(arch: str | dict, weights: Weights) -> nn.Module:
    """Build mmpretrain's backbone of an arch, with a distillation token if `weights` have one."""
    from mmpretrain.models import DistilledVisionTransformer, VisionTransformer  # takes seconds

    kind = DistilledVisionTransformer if is_distilled(weights) else VisionTransformer
    return kind(arch, **read_deit_settings(weights))


def build_deit_head(weights: Weights, num_classes: int, width: int) -> nn.Module:
    """Build the linear head, or that of two tokens."""
    from mmpretrain.models import DeiTClsHead

    if is_distilled(weights):
        return DeiTClsHead(num_classes, width)
    return build_linear_head(weights, num_classes, width)


CONVERTER = Converter(
    name='deit',
    backbones=('VisionTransformer', 'DistilledVisionTransformer'),
    rename=convert_deit,
    read_arch=read_deit_arch,
    arch_zoo=name_deit_archs,
    build_backbone=build_deit,
    build_head=build_deit_head,
    guessed=('num_heads',),
)
