"""Converter of the original ViT-LLaMA's checkpoints."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmvitlin.checkpoints.converters.converter import Converter, Weights, model_class
from mmvitlin.checkpoints.converters.plain_vit import (
    count_layers,
    plain_vit_renames,
    read_patches,
    read_plain_vit_arch,
    read_shape,
)
from mmvitlin.checkpoints.converters.renaming import rename_weights
from mmvitlin.errors import CheckpointError

LLAMA = (
    (r'llama_dim_mapper1\.', r'backbone.llama_in.'),
    (r'llama\.layers\.', r'backbone.llama.layers.'),
    (r'llama_dim_mapper2\.', r'backbone.llama_out.'),
)
BLOCKS = 'backbone.llama.layers.'
NORM = 'llama.norm.weight'  # after the blocks: the originals leave it at one, and ours has none


def convert_vit_llama(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original classifier's weights, as `rename_weights`; the block may be among them.

    Raises:
        CheckpointError: as there, or the norm after the blocks was trained.
    """
    if NORM in state_dict and not (state_dict[NORM] == 1).all():
        raise CheckpointError(
            f'{NORM} is not one everywhere as in the original, where LLaMA is frozen and never '
            'given its last norm; what trained it is another model'
        )
    weights = {name: value for name, value in state_dict.items() if name != NORM}
    return rename_weights(weights, (*LLAMA, *plain_vit_renames(weights)), 'ViT-LLaMA')


def read_vit_llama_arch(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read ViTLLaMA's `arch` off the shapes of converted weights, as `read_plain_vit_arch`."""
    return read_plain_vit_arch(state_dict)


def read_vit_llama_settings(state_dict: Mapping[str, Tensor]) -> dict:
    """Read ViTLLaMA's other arguments off converted weights, with or without the block.

    LLaMA's heads leave no trace, and are taken to be one.

    Raises:
        CheckpointError: a weight that they are read from is missing.
    """
    w1 = state_dict.get(f'{BLOCKS}0.feed_forward.w1.weight')
    llama = dict(
        embed_dims=read_shape(state_dict, 'backbone.llama_in.weight', 2)[0],
        num_heads=1,
        feedforward_channels=1 if w1 is None else w1.shape[0],
        num_blocks=max(count_layers(state_dict, BLOCKS), 1),
    )
    return dict(llama=llama, **read_patches(state_dict))


def build_vit_llama(arch: str | dict, weights: Weights) -> nn.Module:
    """Build the backbone of an arch, holding a block of LLaMA where `weights` have one."""
    settings = read_vit_llama_settings(weights)
    settings['llama']['save'] = True
    backbone = model_class('ViTLLaMA')(arch, **settings)
    backbone.llama.take_from(weights, 'backbone.llama.')
    return backbone


CONVERTER = Converter(
    name='vit-llama',
    backbones=('mmvitlin.ViTLLaMA',),
    rename=convert_vit_llama,
    read_arch=read_vit_llama_arch,
    arch_zoo=lambda: model_class('ViTLLaMA').arch_zoo,
    build_backbone=build_vit_llama,
    guessed=('num_heads',),
)
