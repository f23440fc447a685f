"""Draw the patches that each stage of token expansion keeps, and those that it merges.

A kept patch shows the image. A merged patch has the colour of the frame around the kept patch that
it is merged into.
"""

import argparse
import colorsys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.curricula.hook import build_hooks
from mmvitlin.curricula.model_parts import find_backbone
from mmvitlin.curricula.plan import count_stages
from mmvitlin.curricula.token_expansion.selection import (
    patch_size_of,
    patch_tokens,
    select_stages,
)
from mmvitlin.engine.launcher import (
    add_cfg_options,
    existing_checkpoint,
    load_config,
    one_line_errors,
)
from mmvitlin.errors import ConfigError

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

GOLDEN_ANGLE = (3 - 5**0.5) / 2  # of the circle of hues: neighbours in a list look different
OPACITY = 0.75  # of the colour over a merged patch


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the training')
    parser.add_argument(
        'checkpoint', nargs='?', help='the weights to choose with; random ones if none'
    )
    parser.add_argument(
        '--images', nargs='+', help='image files; by default some of the test data of the config'
    )
    parser.add_argument(
        '--num', type=int, default=4, help='how many of the test data (%(default)s)'
    )
    parser.add_argument(
        '--out', type=Path, help='the picture; token_expansion.png in the work directory'
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num takes a number of images, at least 1, got {args.num}')
    return args


def main() -> None:
    """Draw."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    init_default_scope(cfg.default_scope)
    hook, *_ = build_hooks(cfg, TokenExpansionHook)
    torch.manual_seed(0)
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    model = MODELS.build(cfg.model)
    count_stages(find_backbone(model), hook.expansion)  # or the backbone does not fit
    if args.checkpoint:
        register_safe_loaders()
        load_whole(model, existing_checkpoint(args.checkpoint))
    model.eval()

    samples = read_files(cfg, args.images) if args.images else read_dataset(cfg, args.num)
    batches = [model.data_preprocessor(sample) for sample in samples]
    tokens = patch_tokens(model, hook.expansion.layer, [batch['inputs'] for batch in batches])
    is_bgr = (cfg.model.data_preprocessor or {}).get('to_rgb', False)
    pictures = [as_picture(sample['inputs'][0], is_bgr) for sample in samples]
    path = args.out or Path(cfg.work_dir) / 'token_expansion.png'
    selections = [select_stages(patches, hook.expansion) for patches in tokens]
    draw(pictures, selections, patch_size_of(find_backbone(model)), path)
    print(f'drawn to {path}')


def read_dataset(cfg: Config, num: int) -> list[dict]:
    """Read images at even spacing from the test data, as batches of one."""
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    indices = np.linspace(0, len(dataset) - 1, min(num, len(dataset))).astype(int)
    return [as_batch(dataset[index]) for index in indices.tolist()]


def read_files(cfg: Config, paths: list[str]) -> list[dict]:
    """Read image files through the pipeline of the test data, as batches of one."""
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise ConfigError(f'there is no image at {missing[0]}; check the path, from {Path.cwd()}')
    pipeline = cfg.test_dataloader.dataset.pipeline
    if pipeline[0].type != 'LoadImageFromFile':
        pipeline = [dict(type='LoadImageFromFile'), *pipeline]
    pipeline = Compose(pipeline)
    return [as_batch(pipeline(dict(img_path=path))) for path in paths]


def as_batch(sample: dict) -> dict:
    """Turn a sample of a pipeline into a batch, as data loaders do."""
    return {key: [value] for key, value in sample.items()}


def as_picture(image: Tensor, is_bgr: bool) -> np.ndarray:
    """Turn an image (C, H, W) from 0 to 255 into a picture (H, W, 3) from 0 to 1, in RGB."""
    picture = image.permute(1, 2, 0).numpy() / 255
    if picture.shape[-1] == 1:
        return picture.repeat(3, -1)
    return picture[..., ::-1] if is_bgr else picture


def draw(
    pictures: list[np.ndarray],
    selections: list[dict[int, tuple[Tensor, Tensor]]],
    patch_size: tuple[int, int],
    path: Path,
) -> None:
    """Draw a row per image: the image, and each stage that reduces its tokens.

    Args:
        pictures: (H, W, 3) each.
        selections: of each image, as of `select_stages`.
        patch_size: height and width of a patch in pixels.
        path: the file to write.
    """
    stages = list(selections[0])
    figure, axes = plt.subplots(
        len(pictures),
        1 + len(stages),
        figsize=(3 * (1 + len(stages)), 3 * len(pictures) + 0.6),
        layout='constrained',
        squeeze=False,
    )
    for row, picture, selection in zip(axes, pictures, selections):
        row[0].imshow(picture)
        for axis, stage in zip(row[1:], stages):
            kept, slots = selection[stage]
            draw_stage(axis, picture, kept.numpy(), slots.numpy(), patch_size)
            axis.set_title(f'stage {stage}: {len(kept)} of {len(slots)} patches', fontsize=10)
    for axis in axes.flat:
        axis.axis('off')
    figure.suptitle('merged patches have the colour of the frame that they go to')
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format=path.suffix[1:] or 'png')
    plt.close(figure)


def draw_stage(
    axis: Axes,
    picture: np.ndarray,
    kept: np.ndarray,
    slots: np.ndarray,
    patch_size: tuple[int, int],
) -> None:
    """Draw one image (H, W, 3) with its merged patches of (height, width) coloured.

    Models pad at the right and bottom, so that patches there may be partly outside of the picture.
    """
    height, width = patch_size
    across = -(-picture.shape[1] // width)
    targets = [slot for slot in np.argsort(kept) if (slots == slot).sum() > 1]
    colours = {
        slot: colorsys.hsv_to_rgb(rank * GOLDEN_ANGLE % 1, 0.9, 0.95)
        for rank, slot in enumerate(targets)
    }
    painted = picture.copy()
    for position, slot in enumerate(slots):
        top, left = position // across * height, position % across * width
        if kept[slot] != position:
            patch = painted[top : top + height, left : left + width]
            patch += OPACITY * (np.array(colours[slot]) - patch)
        elif slot in colours:
            corner, frame = (left - 0.5, top - 0.5), dict(edgecolor=colours[slot], linewidth=2)
            axis.add_patch(Rectangle(corner, width, height, fill=False, **frame))
    axis.imshow(painted)


if __name__ == '__main__':
    with one_line_errors():
        main()
