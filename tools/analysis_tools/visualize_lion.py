"""Draw the decay masks of a LION on an image, and the decays of its heads.

For each chosen patch and each scan of one layer, the picture shows the decay mask: the factors by
which the patch discounts what it reads from every other patch. Below are the gates, whose products
these factors are: the learned gate of each head and layer or, with mask_type 'Selective', the
distribution of the gates that the tokens of this image select. The gates are printed as well.
Without a checkpoint, the model has its initial weights.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn

from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.engine.launcher import (
    add_cfg_options,
    load_config,
    one_line_errors,
)
from mmvitlin.engine.one_image import build_model, default_patches, load_image, parse_patch
from mmvitlin.errors import ConfigError
from mmvitlin.models import LION
from mmvitlin.models.lion_decay import (
    QUANTILES,
    Scans,
    gate_quantiles,
    half_life,
    patch_masks,
    read_scans,
)

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle

COLOURS = (*plt.get_cmap('tab10').colors, *plt.get_cmap('Dark2').colors)  # of patches and of heads
MASK_COLOURS = 'YlGnBu'
MASK_OPACITY = 0.85  # over the image, which can still be seen
FADED = 0.35  # opacity of the image below a mask or a scan
MAX_NUMBERED = 10  # grids of at most this many rows and columns have the numbers of a mask in them
PANEL = 3.0  # inches


class Selection(NamedTuple):
    """The decay masks around one patch.

    Attributes:
        patch: its row and column.
        heads: the heads that the masks are averaged over, in words.
        masks: name of a scan -> (prefix tokens + rows * columns,).
    """

    patch: tuple[int, int]
    heads: str
    masks: dict[str, Tensor]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of a model with a backbone mmvitlin.LION')
    parser.add_argument('checkpoint', nargs='?', help='the checkpoint to draw, a file or a URL')
    parser.add_argument('--image', required=True, help='the image to run the model on')
    parser.add_argument(
        '--layer',
        type=int,
        default=-1,
        help='the layer to draw, from 0, or from -1 backwards (default: %(default)s, the last)',
    )
    parser.add_argument(
        '--patches',
        nargs='+',
        type=parse_patch,
        metavar='ROW,COLUMN',
        help='the patches to draw masks around, counted from 0 (default: one in the middle and two '
        'near corners)',
    )
    parser.add_argument(
        '--head',
        default='mean',
        type=parse_head,
        help="the number of a head from 0, 'all' for each, or 'mean' (default: %(default)s)",
    )
    parser.add_argument(
        '--out', help='the picture to write (default: lion-layerN.png in the work directory)'
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    formats = FigureCanvasAgg.get_supported_filetypes()
    if args.out and Path(args.out).suffix[1:].lower() not in formats:
        parser.error(f'--out takes a file of type {", ".join(formats)}, got {args.out}')
    return args


def parse_head(text: str) -> int | str:
    """Parse a number, 'all' or 'mean'."""
    if text not in ('all', 'mean') and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a head's number, 'all' or 'mean', got {text!r}")
    return int(text) if text.isdecimal() else text


def find_lion(model: nn.Module) -> LION:
    """Find the LION in a model."""
    backbone = next((module for module in model.modules() if isinstance(module, LION)), None)
    if backbone is None:
        found = type(getattr(model, 'backbone', model)).__name__
        raise ConfigError(
            f'give a config of a model with a backbone mmvitlin.LION: that of the config is {found}'
        )
    return backbone


def select(scans: Scans, layer: int, args: argparse.Namespace, prefix: int) -> list[Selection]:
    """Compute the masks that the command line asks for, patch by patch."""
    of_layer, (rows, columns) = scans.layers[layer], scans.grid
    patches = args.patches or default_patches(scans.grid)
    for row, column in patches:
        if row >= rows or column >= columns:
            raise ConfigError(
                f'--patches {row},{column} is outside the grid: the image has {rows} rows and '
                f'{columns} columns of patches, counted from 0'
            )
    heads = range(next(iter(of_layer.values())).log_gates.shape[1])
    if isinstance(args.head, int) and args.head not in heads:
        raise ConfigError(
            f'--head must be from 0 to {len(heads) - 1}, of {len(heads)} heads, got {args.head}'
        )
    groups = {f'head {head}': [head] for head in heads if args.head in (head, 'all')}
    groups = groups or {f'mean of {len(heads)} heads': heads}
    selections = []
    for patch in patches:
        for text, group in groups.items():
            masks = patch_masks(of_layer, scans.grid, [patch], group, prefix)
            selections.append(Selection(patch, text, {name: m[0] for name, m in masks.items()}))
    return selections


def print_gates(scans: Scans, prefix: int) -> None:
    """Print the gates and the half-life of each layer, scan and head."""
    for index, layer in enumerate(scans.layers):
        for name, scan in layer.items():
            for head, gates in enumerate(gate_quantiles(scan, prefix).tolist()):
                kinds = ['gate'] if len(gates) == 1 else QUANTILES
                text = ' '.join(f'{kind} {gate:.4f}' for kind, gate in zip(kinds, gates))
                tokens = half_life(gates[len(gates) // 2])
                print(f'layer {index}, {name}, head {head}: {text}, half-life {tokens:.4g} tokens')


# The picture


def draw(
    image: np.ndarray,
    patch_size: int,
    scans: Scans,
    layer: int,
    selections: Sequence[Selection],
    prefix: int,
    title: str,
    path: Path,
) -> None:
    """Draw the image and the scans, a row of masks per selection, and the gates of all layers."""
    grid, of_layer = scans.grid, scans.layers[layer]
    names = list(selections[0].masks)
    is_constant = all(scan.log_gates.shape[2] == 1 for scan in of_layer.values())
    columns, rows = 1 + len(names), 1 + len(selections)
    gates_height = 1.2 + 0.45 * len(scans.layers) if is_constant else 2.4 * len(of_layer) + 0.5
    masks_height = rows * (PANEL * min(max(grid[0] / grid[1], 0.5), 2.0) + 0.3)
    figure = plt.figure(
        figsize=(columns * PANEL + 0.9, masks_height + gates_height + 0.6), layout='constrained'
    )
    figure.suptitle(title, fontsize=13)
    masks_part, gates_part = figure.subfigures(2, 1, height_ratios=[masks_height, gates_height])
    axes = masks_part.subplots(rows, columns, squeeze=False)

    def show(axis: Axes, title: str, opacity: float = FADED) -> None:
        # In units of patches; the last patches can be partly padding.
        height, width = np.divide(image.shape[:2], patch_size)
        axis.imshow(image, extent=(-0.5, width - 0.5, height - 0.5, -0.5), alpha=opacity)
        axis.set(xlim=(-0.5, grid[1] - 0.5), ylim=(grid[0] - 0.5, -0.5))
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)

    colours = dict(zip(dict.fromkeys(s.patch for s in selections), COLOURS * rows))
    show(axes[0, 0], 'the image and the chosen patches', 1.0)
    for patch, colour in colours.items():
        frame(axes[0, 0], patch, colour)
    for axis, (name, scan) in zip(axes[0, 1:], of_layer.items()):
        show(axis, f'the scan {name}')
        draw_order(axis, scan.order, grid, prefix)
    for unused in axes[0, 1 + len(of_layer) :]:
        unused.set_axis_off()
    for row, selection in zip(axes[1:], selections):
        colour = colours[selection.patch]
        show(row[0], f'patch {selection.patch}, {selection.heads}', 1.0)
        frame(row[0], selection.patch, colour)
        for axis, (name, mask) in zip(row[1:], selection.masks.items()):
            show(axis, f'{name}; class token {mask[0]:.2f}' if prefix else name)
            values = mask[prefix:].view(grid).numpy()
            axis.imshow(values, cmap=MASK_COLOURS, vmin=0, vmax=1, alpha=MASK_OPACITY)
            if max(grid) <= MAX_NUMBERED:
                write_numbers(axis, values, lambda v: f'{v:.2f}' if v >= 0.005 else '', 6.5)
            frame(axis, selection.patch, colour)
    masks_part.colorbar(
        ScalarMappable(Normalize(0, 1), MASK_COLOURS),
        ax=axes[1:],
        label='decay mask of the framed patch',
        alpha=MASK_OPACITY,
        aspect=40 * len(selections) / 3,
    )
    (draw_constant_gates if is_constant else draw_selected_gates)(gates_part, scans, layer, prefix)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def frame(axis: Axes, patch: tuple[int, int], colour: tuple | str, width: int = 1) -> None:
    """Draw a frame around `width` cells of a grid."""
    corner = (patch[1] - 0.5, patch[0] - 0.5)
    axis.add_patch(Rectangle(corner, width, 1, fill=False, edgecolor=colour, linewidth=2.5))


def draw_order(axis: Axes, order: Tensor | None, grid: tuple[int, int], prefix: int) -> None:
    """Draw a scan of the patches as a line from a dot to an arrow."""
    rows, columns = grid
    patches = np.arange(rows * columns) if order is None else order[prefix:].numpy() - prefix
    y, x = patches // columns, patches % columns
    axis.plot(x, y, color='tab:red', linewidth=1)
    axis.plot(x[0], y[0], 'o', color='tab:red')
    if len(patches) > 1:
        arrow = dict(arrowstyle='-|>', color='tab:red', mutation_scale=14)
        axis.annotate('', (x[-1], y[-1]), (x[-2], y[-2]), arrowprops=arrow)


def write_numbers(
    axis: Axes, values: np.ndarray, write: Callable[[float], str], size: float
) -> None:
    """Write numbers from 0 to 1 into the cells of a picture of them."""
    for (row, column), value in np.ndenumerate(values):
        colour = 'white' if value > 0.55 else 'black'
        axis.text(column, row, write(value), ha='center', va='center', fontsize=size, color=colour)


def draw_constant_gates(figure: SubFigure, scans: Scans, layer: int, prefix: int) -> None:
    """Draw the gate and the half-life of each layer and head, a table per scan."""
    figure.suptitle(
        f'learned gate per token, and half-life in tokens (framed: layer {layer})', fontsize=11
    )
    names = list(scans.layers[0])
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names):
        gates = torch.cat([gate_quantiles(of[name], prefix) for of in scans.layers], 1).T.numpy()
        shown = axis.imshow(gates, cmap=MASK_COLOURS, vmin=0, vmax=1, aspect='auto')
        write_numbers(axis, gates, lambda gate: f'{gate:.3f}\n{half_life(gate):.3g}', 8)
        frame(axis, (layer, 0), 'red', gates.shape[1])
        axis.set(xticks=range(gates.shape[1]), yticks=range(len(gates)))
        axis.set(xlabel='head', ylabel='layer', title=name)
    figure.colorbar(shown, ax=axes, label='gate')


def draw_selected_gates(figure: SubFigure, scans: Scans, layer: int, prefix: int) -> None:
    """Draw the quantiles of the gates of each layer and head, a diagram per scan."""
    figure.suptitle(
        'gates that the tokens of this image select: median, quartiles and extremes '
        f'(shaded: layer {layer})',
        fontsize=11,
    )
    names, depth = list(scans.layers[0]), len(scans.layers)
    axes = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    for axis, name in zip(axes, names):
        quantiles = torch.stack([gate_quantiles(of[name], prefix) for of in scans.layers])
        heads = quantiles.shape[1]
        for head, colour in zip(range(heads), COLOURS * heads):
            axis.bxp(
                [
                    dict(zip(('whislo', 'q1', 'med', 'q3', 'whishi'), gates))
                    for gates in quantiles[:, head].tolist()
                ],
                positions=np.arange(depth) + (head - (heads - 1) / 2) * 0.8 / heads,
                widths=0.64 / heads,
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops=dict(facecolor=colour, alpha=0.6),
                medianprops=dict(color='black'),
            )
            axis.plot([], [], 's', color=colour, alpha=0.6, label=f'head {head}')
        axis.axvspan(layer - 0.5, layer + 0.5, color='tab:red', alpha=0.1)
        axis.set(ylim=(-0.02, 1.02), xlim=(-0.5, depth - 0.5), ylabel='gate', title=name)
        axis.grid(axis='y', alpha=0.3)
    axes[-1].set(xticks=range(depth), xlabel='layer')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside right center', fontsize=8)


def main() -> None:
    """Draw the picture and print the gates."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    register_safe_loaders()
    model = build_model(cfg, args.checkpoint)
    backbone = find_lion(model)
    depth, prefix = len(backbone.layers), backbone.num_extra_tokens
    if not -depth <= args.layer < depth:
        raise ConfigError(
            f'--layer must be from {-depth} to {depth - 1}, of {depth} layers, got {args.layer}'
        )
    layer = args.layer % depth
    image, images = load_image(cfg, model, args.image)
    scans = read_scans(backbone, images)
    selections = select(scans, layer, args, prefix)
    weights = Path(args.checkpoint).name if args.checkpoint else 'INITIAL weights, no checkpoint'
    title = f'{Path(args.config).stem}, layer {layer} of 0 to {depth - 1}: {weights}'
    path = Path(args.out or f'{cfg.work_dir}/lion-layer{layer}.png')
    draw(image, backbone.patch_embed.patch_size, scans, layer, selections, prefix, title, path)
    print_gates(scans, prefix)
    print(f'{title}\n{path}')


if __name__ == '__main__':
    with one_line_errors():
        main()
