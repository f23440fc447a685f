"""Converter of the original LION's checkpoints."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmvitlin.checkpoints.converters.converter import Converter, Weights, model_class
from mmvitlin.checkpoints.converters.plain_vit import (
    plain_vit_renames,
    read_patches,
    read_plain_vit_arch,
    read_shape,
)
from mmvitlin.checkpoints.converters.renaming import rename_weights

GATE = 'backbone.layers.0.attn.gates'
# Per scan: a vector with a logit per head, or a linear layer from tokens to heads.
GATES = (
    (r'blocks\.(\d+)\.attn\.a_i$', r'backbone.layers.\1.attn.gates.0.logits'),
    (r'blocks\.(\d+)\.attn\.a2_i$', r'backbone.layers.\1.attn.gates.1.logits'),
    (r'blocks\.(\d+)\.attn\.a_i\.', r'backbone.layers.\1.attn.gates.0.'),
    (r'blocks\.(\d+)\.attn\.a2_i\.', r'backbone.layers.\1.attn.gates.1.'),
)


def convert_lion(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original classifier's weights, as `rename_weights`."""
    return rename_weights(state_dict, (*GATES, *plain_vit_renames(state_dict)), 'LION')


def read_lion_arch(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read LION's `arch` off the shapes of converted weights, as `read_plain_vit_arch`."""
    names = (f'{GATE}.0.{part}' for part in ('logits', 'bias'))
    gate = next((name for name in names if name in state_dict), None)
    return read_plain_vit_arch(state_dict, read_shape(state_dict, gate, 1)[0] if gate else None)


def read_lion_settings(state_dict: Mapping[str, Tensor]) -> dict:
    """Read LION's other arguments off converted weights.

    The order of LION-Lit leaves no trace, and changes none of its numbers.

    Raises:
        CheckpointError: a weight that they are read from is missing.
    """
    gates = [name.removeprefix(f'{GATE}.') for name in state_dict if name.startswith(GATE)]
    mask_type = 'Decay' if '0.logits' in gates else 'Selective' if gates else 'Lit'
    return dict(
        mask_type=mask_type,
        order='S' if any(name.startswith('1.') for name in gates) else 'Normal',
        pos_emb='backbone.pos_embed.weight' in state_dict,
        **read_patches(state_dict),
    )


def build_lion(arch: str | dict, weights: Weights) -> nn.Module:
    """Build the backbone of an arch, with the decay, the scans and the patches of `weights`."""
    return model_class('LION')(arch, **read_lion_settings(weights))


CONVERTER = Converter(
    name='lion',
    backbones=('mmvitlin.LION',),
    rename=convert_lion,
    read_arch=read_lion_arch,
    arch_zoo=lambda: model_class('LION').arch_zoo,
    build_backbone=build_lion,
)
