"""Converter of the original L2ViT's checkpoints."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmvitlin.checkpoints.converters.converter import Converter, Weights, model_class
from mmvitlin.checkpoints.converters.renaming import rename_weights
from mmvitlin.errors import CheckpointError

# Odd blocks of a stage are linear global ones.
RENAMES = (
    (r'downsample_layers\.0\.proj\.proj\.0\.', r'backbone.downsamples.0.conv1.'),
    (r'downsample_layers\.0\.proj\.proj\.1\.', r'backbone.downsamples.0.bn1.'),
    (r'downsample_layers\.0\.proj\.proj\.3\.', r'backbone.downsamples.0.conv2.'),
    (r'downsample_layers\.0\.proj\.proj\.4\.', r'backbone.downsamples.0.bn2.'),
    (r'downsample_layers\.(\d+)\.proj\.', r'backbone.downsamples.\1.conv.'),
    (r'downsample_layers\.(\d+)\.norm\.', r'backbone.downsamples.\1.norm.'),
    (r'stages\.(\d+)\.(\d*[13579])\.cpe\.0\.proj\.', r'backbone.stages.\1.\2.cpe.conv.'),
    (r'stages\.(\d+)\.(\d+)\.cpe\.0\.proj\.', r'backbone.stages.\1.\2.cpe1.conv.'),
    (r'stages\.(\d+)\.(\d+)\.cpe\.1\.proj\.', r'backbone.stages.\1.\2.cpe2.conv.'),
    (r'stages\.(\d+)\.(\d+)\.local_mp\.', r'backbone.stages.\1.\2.concentration.'),
    (r'stages\.', r'backbone.stages.'),
    (r'norm\.', r'backbone.norm3.'),
    (r'head\.', r'head.fc.'),
)


STAGES = 4


def convert_l2vit(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original classifier's weights, as `rename_weights`."""
    return rename_weights(state_dict, RENAMES, 'L2ViT')


def read_l2vit_arch(state_dict: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Read L2ViT's `arch` off the shapes of converted weights.

    The heads of softmax attention leave no trace in them: a stage without a block of linear
    attention is given one head.

    Raises:
        CheckpointError: a weight that the widths are read from is missing.
    """
    embed_dims, depths, num_heads = [], [], []
    for stage in range(STAGES):
        name = f'backbone.downsamples.{stage}.{"conv" if stage else "conv2"}.weight'
        if name not in state_dict:
            raise CheckpointError(f'{name} is missing: this is not a whole L2ViT')
        embed_dims.append(len(state_dict[name]))
        stem = f'backbone.stages.{stage}.'
        blocks = [n.removeprefix(stem).split('.') for n in state_dict if n.startswith(stem)]
        depths.append(max((int(block) + 1 for block, *_ in blocks), default=0))
        temperature = state_dict.get(f'{stem}1.attn.temperature', [None])
        num_heads.append(len(temperature))
    return dict(embed_dims=tuple(embed_dims), depths=tuple(depths), num_heads=tuple(num_heads))


def build_l2vit(arch: str | dict, weights: Weights) -> nn.Module:
    """Build the backbone of an arch."""
    return model_class('L2ViT')(arch)


CONVERTER = Converter(
    name='l2vit',
    backbones=('mmvitlin.L2ViT',),
    rename=convert_l2vit,
    read_arch=read_l2vit_arch,
    arch_zoo=lambda: model_class('L2ViT').arch_zoo,
    build_backbone=build_l2vit,
)
