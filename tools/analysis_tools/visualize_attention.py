"""Draw the effective attention of a backbone on an image: where chosen patches read from.

For each chosen patch and attention module the picture shows, over the image, the weights
by which the patch averages the values of all patches, the mean over heads: of softmax attention, of
the attention in windows of L2ViT, and of linear attention, whose weights no forward pass computes.
Prefix tokens, such as the class token, are left out. Without a checkpoint, the model has initial
weights.

python tools/analysis_tools/visualize_attention.py CONFIG CHECKPOINT --image IMAGE
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors
from mmvitlin.engine.one_image import build_model, default_patches, load_image, parse_patch
from mmvitlin.errors import ConfigError
from mmvitlin.models.attention_maps import AttentionMaps, read_attention

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

COLOURS = 'YlGnBu'
OPACITY = 0.7  # of weights over the image
PANEL = 2.6  # inches


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the model')
    parser.add_argument('checkpoint', nargs='?', help='the checkpoint to draw, a file or a URL')
    parser.add_argument('--image', required=True, help='the image to run the model on')
    parser.add_argument(
        '--layers',
        nargs='+',
        type=int,
        default=[-2, -1],
        help='attention modules, from 0, or from -1 backwards (default: the last two)',
    )
    parser.add_argument(
        '--patches',
        nargs='+',
        type=parse_patch,
        metavar='ROW,COLUMN',
        help='patches of the first of these modules, from 0; those at the same place of the image '
        'are taken in the others (default: one in the middle and two near corners)',
    )
    parser.add_argument('--out', help='the picture (default: attention.png in the work directory)')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.out and Path(args.out).suffix not in ('.png', '.pdf', '.svg'):
        parser.error(f'--out takes a file of type .png, .pdf or .svg, got {args.out}')
    return args


def draw(
    image: np.ndarray,
    maps: AttentionMaps,
    layers: list[int],
    patches: list[tuple[int, int]],
    title: str,
    path: Path,
) -> None:
    """Draw a row for each patch and a column for each module."""
    rows, columns = maps.grids[layers[0]]
    figure, axes = plt.subplots(
        len(patches),
        len(layers),
        squeeze=False,
        figsize=(PANEL * len(layers) + 0.5, PANEL * len(patches) + 0.8),
        layout='constrained',
    )
    figure.suptitle(title, fontsize=10)
    height, width = image.shape[:2]
    extent = (0, width, height, 0)
    for patch, of_patch in zip(patches, axes):
        for layer, axis in zip(layers, of_patch):
            grid = maps.grids[layer]
            place = patch[0] * grid[0] // rows, patch[1] * grid[1] // columns
            weights = maps.of_patch(layer, place).float().numpy()
            side = height / grid[0], width / grid[1]
            axis.imshow(image, extent=extent)
            axis.imshow(weights, extent=extent, cmap=COLOURS, alpha=OPACITY, vmin=0)
            corner = (place[1] * side[1], place[0] * side[0])
            axis.add_patch(Rectangle(corner, side[1], side[0], fill=False, edgecolor='red'))
            axis.set_title(f'{maps.names[layer]}, patch {place}', fontsize=7)
            axis.set_axis_off()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format=path.suffix[1:])
    plt.close(figure)


def main() -> None:
    """Draw the picture, and print where each patch reads most."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    register_safe_loaders()
    model = build_model(cfg, args.checkpoint)
    image, images = load_image(cfg, model, args.image)
    maps = read_attention(model.backbone, images)
    count = len(maps.layers)
    for layer in args.layers:
        if not -count <= layer < count:
            raise ConfigError(
                f'--layers must be from {-count} to {count - 1}, of {count} modules, got {layer}'
            )
    layers = [layer % count for layer in args.layers]
    rows, columns = maps.grids[layers[0]]
    patches = args.patches or default_patches((rows, columns))
    for row, column in patches:
        if row >= rows or column >= columns:
            raise ConfigError(
                f'--patches {row},{column} is outside the grid: {maps.names[layers[0]]} has {rows} '
                f'rows and {columns} columns of patches, counted from 0'
            )
    weights = Path(args.checkpoint).name if args.checkpoint else 'INITIAL weights, no checkpoint'
    title = f'{Path(args.config).stem}: {weights}'
    path = Path(args.out or f'{cfg.work_dir}/attention.png')
    draw(image, maps, layers, patches, title, path)
    for patch in patches:
        read = maps.of_patch(layers[0], patch)
        most = divmod(int(read.argmax()), columns)
        print(f'{maps.names[layers[0]]}: patch {patch} reads most from {most}, {read.max():.3f}')
    print(f'{title}\n{path}')


if __name__ == '__main__':
    with one_line_errors():
        main()
