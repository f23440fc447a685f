"""Names and sizes in checkpoints of models that are built on timm's vision transformer."""

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from mmvitlin.checkpoints.converters.renaming import Renames
from mmvitlin.errors import CheckpointError

HEAD_WIDTH = 64  # of every plain vision transformer that has been published


def plain_vit_renames(state_dict: Mapping[str, Tensor]) -> Renames:
    """Return the key map for weights that may be timm's: their depth names the last norm."""
    return (
        (r'cls_token$', r'backbone.cls_token'),
        (r'pos_embed$', r'backbone.pos_embed.weight'),
        (r'patch_embed\.', r'backbone.patch_embed.'),
        (r'blocks\.', r'backbone.layers.'),
        (r'norm\.', rf'backbone.norm{count_layers(state_dict, "blocks.") - 1}.'),
        (r'head\.', r'head.fc.'),
    )


def read_plain_vit_arch(
    state_dict: Mapping[str, Tensor], num_heads: int | None = None
) -> dict[str, int]:
    """Read the `arch` of a plain vision transformer off the shapes of converted weights.

    Args:
        num_heads: where it is known. The heads of most attentions leave no trace: they are taken to
            be 64 wide, or one where 64 does not divide the width.

    Raises:
        CheckpointError: a weight that the widths are read from is missing.
    """
    width = read_shape(state_dict, 'backbone.cls_token', 3)[-1]
    return dict(
        embed_dims=width,
        num_layers=count_layers(state_dict, 'backbone.layers.'),
        num_heads=num_heads or (1 if width % HEAD_WIDTH else width // HEAD_WIDTH),
        feedforward_channels=read_shape(state_dict, 'backbone.layers.0.mlp.fc1.weight', 2)[0],
    )


def read_patches(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read `patch_size`, `in_channels` and, where positions are learned, the side of square images.

    Raises:
        CheckpointError: a weight that they are read from is missing.
    """
    name = 'backbone.patch_embed.proj.weight'
    _, in_channels, patch_size, _ = read_shape(state_dict, name, 4)
    settings = dict(patch_size=patch_size, in_channels=in_channels)
    if 'backbone.pos_embed.weight' in state_dict:
        patches = read_shape(state_dict, 'backbone.pos_embed.weight', 3)[1] - 1
        settings['img_size'] = square_side(patches, patch_size)
    return settings


def square_side(patches: int, patch_size: int) -> int:
    """Return the side in pixels of a square image with this number of patches."""
    return max(isqrt(max(patches, 0)), 1) * patch_size


def count_layers(state_dict: Mapping[str, Tensor], stem: str) -> int:
    """Return one more than the highest number that follows `stem` in a name."""
    behind = (name.removeprefix(stem) for name in state_dict if name.startswith(stem))
    numbers = (name.split('.')[0] for name in behind)
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def read_shape(state_dict: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    """Return the shape of a weight.

    Raises:
        CheckpointError: it is missing, or does not have `ndim` dimensions.
    """
    if name not in state_dict:
        raise CheckpointError(f'{name} is missing: this is not a whole classifier of this system')
    shape = tuple(state_dict[name].shape)
    if len(shape) != ndim:
        raise CheckpointError(f'{name} has the shape {shape}, and {ndim} dimensions were expected')
    return shape
