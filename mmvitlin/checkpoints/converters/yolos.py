"""Converter of the original YOLOS's checkpoints: detectors, where other systems have classifiers.

The original numbers its classes by COCO's category ids: a head of 91 ids becomes one of 80 classes.
Shapes give the number of patches of position embeddings, not their rows and columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmvitlin.checkpoints.converters.converter import Converter, Weights, model_class
from mmvitlin.checkpoints.converters.deit import BACKBONE, name_deit_archs
from mmvitlin.checkpoints.converters.plain_vit import HEAD_WIDTH, count_layers, read_shape
from mmvitlin.checkpoints.converters.renaming import rename_all
from mmvitlin.errors import CheckpointError

HEAD = 'bbox_head'
CLASSES = f'{HEAD}.cls_branch.4.weight'  # a row per class, then one of no object
UNUSED_IDS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # of no category
COCO_IDS = 91  # 0 to 90
# The only published width that heads of 64 channels do not divide: small_dWr, 330 in 6 heads.
HEADS_OF_WIDTH = {330: 6}
RENAMES = (
    (r'backbone\.(det_token|mid_pos_embed)$', r'backbone.\1'),
    *((rf'backbone\.{pattern}', ours) for pattern, ours in BACKBONE),
    *(
        (rf'{theirs}\.layers\.{layer}\.', f'{HEAD}.{ours}.{2 * layer}.')
        for theirs, ours in (('class_embed', 'cls_branch'), ('bbox_embed', 'reg_branch'))
        for layer in range(3)
    ),
)
# Position embedding -> the argument of the original that its size is under, the argument of ours,
# and the dimensions of the weight.
POSITIONS = {
    'pos_embed': ('init_pe_size', 'img_size', 3),
    'mid_pos_embed': ('mid_pe_size', 'mid_img_size', 4),
}


def convert_yolos(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original detector's weights to those of mmdetection's SingleStageDetector.

    A head of COCO's 91 ids becomes one of its 80 classes, in ascending order of the ids. A head of
    another number of classes stays as it is, and so does a checkpoint of ours.

    Raises:
        CheckpointError: names that no checkpoint of the original has.
    """
    if 'backbone.patch_embed.projection.weight' in state_dict:
        return dict(state_dict)
    converted = rename_all(state_dict, RENAMES, 'YOLOS')
    rows = [row for row in range(COCO_IDS + 1) if row not in UNUSED_IDS]
    for name in (CLASSES, CLASSES.replace('weight', 'bias')):
        if len(converted.get(name, ())) == COCO_IDS + 1:
            converted[name] = converted[name][rows]
    return converted


def read_yolos_arch(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Read the `arch` of the ViT off the shapes of converted weights.

    Raises:
        CheckpointError: a weight that the widths are read from is missing.
    """
    width = read_shape(state_dict, 'backbone.cls_token', 3)[-1]
    ffn = read_shape(state_dict, 'backbone.layers.0.ffn.layers.0.0.weight', 2)[0]
    return dict(
        embed_dims=width,
        num_layers=count_layers(state_dict, 'backbone.layers.'),
        num_heads=HEADS_OF_WIDTH.get(width) or max(width // HEAD_WIDTH, 1),
        feedforward_channels=ffn,
    )


def read_yolos_sizes(
    state_dict: Mapping[str, Tensor], loaded: Any, given: Mapping[str, Sequence[int] | None]
) -> dict[str, tuple[int, int]]:
    """Return the image sizes (H, W) of the position embeddings, by the backbone's arguments.

    Args:
        state_dict: converted weights.
        loaded: content of the checkpoint, with the original's command line under 'args' or without.
        given: sizes from the user, by the backbone's arguments; they override the command line.

    Raises:
        CheckpointError: no size is given or found for a position embedding, or the size gives
            another number of patches.
    """
    patch_size = read_shape(state_dict, 'backbone.patch_embed.projection.weight', 4)[-1]
    num_det_tokens = read_shape(state_dict, 'backbone.det_token', 3)[1]
    command_line = loaded.get('args') if isinstance(loaded, Mapping) else None
    sizes = {}
    for name, (theirs, ours, ndim) in POSITIONS.items():
        if name == 'mid_pos_embed' and f'backbone.{name}' not in state_dict:
            continue
        patches = read_shape(state_dict, f'backbone.{name}', ndim)[-2] - 1 - num_det_tokens
        size = given.get(ours) or getattr(command_line, theirs, None)
        option = f'--{ours.replace("_", "-")}'
        if not size:
            raise CheckpointError(
                f'{name} is of {patches} patches, which do not tell their rows and columns: give '
                f'{option} H W, the size that the checkpoint was trained with'
            )
        height, width = size
        rows, columns = height // patch_size, width // patch_size
        if rows * columns != patches:
            raise CheckpointError(
                f'{option} {height} {width} is {rows} x {columns} patches of {patch_size} pixels, '
                f'and {name} is of {patches}: give the size that the checkpoint was trained with'
            )
        sizes[ours] = height, width
    return sizes


def build_yolos(arch: str | dict, weights: Weights, **sizes: tuple[int, int]) -> nn.Module:
    """Build the backbone of an arch of mmpretrain's VisionTransformer, for image sizes."""
    _, in_channels, patch_size, _ = read_shape(weights, 'backbone.patch_embed.projection.weight', 4)
    vit = dict(
        type='mmpretrain.VisionTransformer',
        arch=arch,
        patch_size=patch_size,
        in_channels=in_channels,
    )
    num_det_tokens = read_shape(weights, 'backbone.det_token', 3)[1]
    return model_class('YOLOSViT')(vit, num_det_tokens=num_det_tokens, **sizes)


def build_yolos_head(weights: Weights, num_classes: int, width: int) -> nn.Module:
    """Build the head of mmdetection's detector."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return model_class('YOLOSHead')(num_classes, width)


def count_classes(weights: Weights) -> int:
    """Return the number of classes, without no object."""
    return read_shape(weights, CLASSES, 2)[0] - 1


CONVERTER = Converter(
    name='yolos',
    backbones=('mmvitlin.YOLOSViT',),
    rename=convert_yolos,
    read_arch=read_yolos_arch,
    arch_zoo=name_deit_archs,
    build_backbone=build_yolos,
    head=HEAD,
    build_head=build_yolos_head,
    count_classes=count_classes,
    read_sizes=read_yolos_sizes,
    guessed=('num_heads',),
)
