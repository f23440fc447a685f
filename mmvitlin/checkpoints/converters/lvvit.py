"""Converter of the original LV-ViT's checkpoints."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmvitlin.checkpoints.converters.converter import Converter, Weights, model_class
from mmvitlin.checkpoints.converters.plain_vit import (
    plain_vit_renames,
    read_plain_vit_arch,
    read_shape,
    square_side,
)
from mmvitlin.checkpoints.converters.renaming import rename_weights

TOKEN_HEAD = ((r'aux_head\.', r'head.token_fc.'),)


def convert_lvvit(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original classifier's weights, as `rename_weights`."""
    return rename_weights(state_dict, (*TOKEN_HEAD, *plain_vit_renames(state_dict)), 'LV-ViT')


def read_lvvit_arch(
    state_dict: Mapping[str, Tensor], arch_zoo: Mapping[str, dict]
) -> dict[str, int | float]:
    """Read LVViT's `arch` off the shapes of converted weights, as `read_plain_vit_arch`.

    Heads and `skip_lam` leave no trace. They are those of the arch in `arch_zoo` that has these
    shapes; where none has, the heads are 64 wide, or one, and `skip_lam` is 1.
    """
    stem_channels = read_shape(state_dict, 'backbone.patch_embed.conv1.weight', 4)[0]
    read = dict(read_plain_vit_arch(state_dict), skip_lam=1.0, stem_channels=stem_channels)
    traced = {key: read[key] for key in read.keys() - {'num_heads', 'skip_lam'}}
    alike = (settings for settings in arch_zoo.values() if traced.items() <= settings.items())
    return next(alike, read)


def read_lvvit_settings(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read `patch_size`, `in_channels` and `img_size`, the side of square images.

    Raises:
        CheckpointError: a weight that they are read from is missing.
    """
    # The last convolution of the stem sees images at half of their size.
    patch_size = 2 * read_shape(state_dict, 'backbone.patch_embed.proj.weight', 4)[-1]
    patches = read_shape(state_dict, 'backbone.pos_embed.weight', 3)[1] - 1
    return dict(
        patch_size=patch_size,
        in_channels=read_shape(state_dict, 'backbone.patch_embed.conv1.weight', 4)[1],
        img_size=square_side(patches, patch_size),
    )


def build_lvvit(arch: str | dict, weights: Weights) -> nn.Module:
    """Build the backbone of an arch, with the patches of `weights`."""
    return model_class('LVViT')(arch, **read_lvvit_settings(weights))


def build_token_label_head(weights: Weights, num_classes: int, width: int) -> nn.Module:
    """Build LV-ViT's head."""
    return model_class('TokenLabelHead')(num_classes, width)


CONVERTER = Converter(
    name='lvvit',
    backbones=('mmvitlin.LVViT',),
    rename=convert_lvvit,
    read_arch=lambda weights: read_lvvit_arch(weights, model_class('LVViT').arch_zoo),
    arch_zoo=lambda: model_class('LVViT').arch_zoo,
    build_backbone=build_lvvit,
    build_head=build_token_label_head,
    guessed=('num_heads', 'skip_lam'),
)
