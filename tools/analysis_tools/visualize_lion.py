"""Draw how far LION's tokens see one another on an image, and the decays of its heads.

For each chosen patch, and each scan of one layer, the picture shows the decay mask: by how much the
patch discounts what it reads from every other. Below are the gates whose products these are: what
each head of each layer learned, or, where tokens select their gates, how those of this image are
distributed. The gates are printed as well. Without a checkpoint they are the initial weights'.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.checkpoints.state_dicts import load_whole
from mmvitlin.engine.launcher import (
    add_cfg_options,
    existing_checkpoint,
    load_config,
    one_line_errors,
)
from mmvitlin.errors import ConfigError
from mmvitlin.models import LION
from mmvitlin.models.backbones.lion import ORDERS
from mmvitlin.ops.decayed_attention import Scan, decay_mask

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle

SCAN_NAMES = {'Normal': ('row by row',), 'S': ('along rows', 'along columns')}
QUANTILES = {'min': 0.0, '25%': 0.25, 'median': 0.5, '75%': 0.75, 'max': 1.0}
COLOURS = (*plt.get_cmap('tab10').colors, *plt.get_cmap('Dark2').colors)  # of patches, heads
MASK_COLOURS = 'YlGnBu'
MASK_OPACITY = 0.85  # over the image, which stays just visible
FADED = 0.35  # opacity of the image under something else
MOST_NUMBERS = 10  # rows or columns of patches up to which a mask's numbers fit into it
PANEL = 3.0  # inches
LEGEND = """How to read the maps below

What is left of what the framed patch
reads from each other patch: it starts at 1
and is multiplied by the decay of each
token on the way, the one that is read
included. The way follows the red line,
forwards or back. The class token stands
before its dot."""


class Selection(NamedTuple):
    """The decay mask around one patch: what it reads from every token.

    Attributes:
        patch: its row and column.
        heads: which heads the mask is of, in words.
        rows: scan -> (1 + rows * columns,), the class token first.
    """

    patch: tuple[int, int]
    heads: str
    rows: dict[str, Tensor]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of a model with a backbone mmvitlin.LION')
    parser.add_argument('checkpoint', nargs='?', help='the checkpoint to draw, a file or a URL')
    parser.add_argument('--image', required=True, help='the image that the tokens are of')
    parser.add_argument(
        '--layer', type=int, default=-1, help='whose masks to draw, negative ones from the end'
    )
    parser.add_argument(
        '--patches',
        nargs='+',
        type=parse_patch,
        metavar='ROW,COLUMN',
        help='patches to draw masks around, counted from 0; by default one in the middle and two '
        'near corners',
    )
    parser.add_argument(
        '--head',
        default='mean',
        type=parse_head,
        help="a head's number, counted from 0, 'all' for each, or 'mean' (default)",
    )
    parser.add_argument(
        '--out', help='the picture to write; by default lion-layerN.png in the work directory'
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    formats = FigureCanvasAgg.get_supported_filetypes()
    if args.out and Path(args.out).suffix[1:].lower() not in formats:
        parser.error(f'--out takes a file of type {", ".join(formats)}, got {args.out}')
    return args


def parse_patch(text: str) -> tuple[int, int]:
    """'ROW,COLUMN' -> both."""
    parts = text.split(',')
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f'expected ROW,COLUMN such as 3,4, got {text!r}')
    return int(parts[0]), int(parts[1])


def parse_head(text: str) -> int | str:
    """A number, 'all' or 'mean'."""
    if text not in ('all', 'mean') and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a head's number, 'all' or 'mean', got {text!r}")
    return int(text) if text.isdecimal() else text


# The model and its image


def build_model(cfg: Config, checkpoint: str | None) -> nn.Module:
    """Build a config's model, with the weights of a checkpoint, or as training starts."""
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    if checkpoint is None:
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel('WARNING')  # not how each weight is initialised
        model.init_weights()
        logger.setLevel(level)
    else:
        load_whole(model, existing_checkpoint(checkpoint))
    return model.eval()


def find_lion(model: nn.Module) -> LION:
    """The backbone of a model, which must be a LION that decays."""
    backbone = next((module for module in model.modules() if isinstance(module, LION)), None)
    if backbone is None:
        found = type(getattr(model, 'backbone', model)).__name__
        raise ConfigError(
            f'this draws models with a backbone mmvitlin.LION, and that of the config is a {found}'
        )
    if not backbone.layers[0].attn.gates:
        raise ConfigError(
            "the backbone's mask_type is 'Lit', in which nothing decays: every token reads all "
            "alike. Give a config with mask_type 'Decay' or 'Selective'"
        )
    if not backbone.num_prefix_tokens:
        raise ConfigError(
            'the backbone has no class token, and its masks are drawn with one: '
            'give a config with with_cls_token=True, such as a classifier'
        )
    return backbone


def load_image(cfg: Config, model: nn.Module, path: str) -> tuple[np.ndarray, Tensor]:
    """Put an image through the config's test pipeline and the model's preprocessor.

    Returns:
        What the pipeline made of it, (H, W, 3) in RGB, and what the backbone takes, (1, C, H, W).
    """
    if not Path(path).is_file():
        raise ConfigError(f'there is no image at {path}; check the path, from {Path.cwd()}')
    image = mmcv.imread(path) if Path(path).stat().st_size else None
    if image is None:
        raise ConfigError(f'{path} is no image that OpenCV can read; give a .png or .jpg file')
    if cfg.get('test_dataloader') is None:
        raise ConfigError('the config has no test_dataloader, whose pipeline the image would take')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset.dataset
    pipeline = [step for step in dataset.pipeline if 'LoadAnnotations' not in str(step['type'])]
    # The image for pipelines of datasets that hold theirs, the path for those that load it.
    sample = dict(img=image, img_path=path, img_shape=image.shape[:2], ori_shape=image.shape[:2])
    packed = Compose(pipeline)(sample)
    images = model.data_preprocessor(pseudo_collate([packed]), False)['inputs']
    rgb = packed['inputs'].flip(0).expand(3, -1, -1)  # a grey image has one channel
    return rgb.permute(1, 2, 0).numpy(), images


# What is drawn


@torch.no_grad()
def read_scans(backbone: LION, images: Tensor) -> tuple[list[dict[str, Scan]], tuple[int, int]]:
    """Run a backbone; return the scans of each layer with their gates, and the grid of patches."""
    names = SCAN_NAMES[next(name for name, scans in ORDERS.items() if scans is backbone.orders)]
    layers = []

    def keep_scans(attention: nn.Module, inputs: tuple) -> None:
        x, orders = inputs
        layers.append(dict(zip(names, attention.scans(x, orders))))

    hooks = [layer.attn.register_forward_pre_hook(keep_scans) for layer in backbone.layers]
    grid = backbone.embed(images).grid
    backbone(images)
    for hook in hooks:
        hook.remove()
    return layers, grid


def mask_rows(scan: Scan, length: int, tokens: Sequence[int], heads: Sequence[int]) -> Tensor:
    """What tokens read from each of `length`, the mean over `heads`: (len(tokens), length)."""
    total = 0.0
    for head in heads:  # one at a time: of a large image the masks of all are gigabytes
        one = scan._replace(log_gates=scan.log_gates[:1, [head]])
        total = total + decay_mask(one, length, torch.float64)[0, 0, list(tokens)]
    return total / len(heads)


def select(
    scans: dict[str, Scan],
    grid: tuple[int, int],
    patches: Sequence[tuple[int, int]] | None,
    head: int | str,
) -> list[Selection]:
    """Compute the masks of a layer around patches, for each patch those of the heads.

    Of two scans, their mean as well: attention weighs by the sum, and divides by what it weighs.

    Raises:
        ConfigError: a patch is outside the grid, or there is no such head.
    """
    rows, columns = grid
    patches = default_patches(grid) if patches is None else patches
    for row, column in patches:
        if row >= rows or column >= columns:
            raise ConfigError(
                f'--patches {row},{column} is outside the grid: the image has {rows} rows and '
                f'{columns} columns of patches, counted from 0'
            )
    num_heads = next(iter(scans.values())).log_gates.shape[1]
    if isinstance(head, int) and head >= num_heads:
        raise ConfigError(
            f'--head must be from 0 to {num_heads - 1}, of {num_heads} heads, got {head}'
        )
    if head == 'mean':
        groups = {f'mean of {num_heads} heads': range(num_heads)}
    else:
        groups = {f'head {i}': [i] for i in range(num_heads) if head in (i, 'all')}
    tokens = [1 + row * columns + column for row, column in patches]
    selections = []
    for heads, group in groups.items():
        masks = {
            name: mask_rows(scan, 1 + rows * columns, tokens, group) for name, scan in scans.items()
        }
        if len(masks) > 1:
            masks['mean of both'] = torch.stack([*masks.values()]).mean(0)
        selections.append(
            [
                Selection(patch, heads, {name: mask[index] for name, mask in masks.items()})
                for index, patch in enumerate(patches)
            ]
        )
    return [selection for of_patch in zip(*selections) for selection in of_patch]


def default_patches(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """One patch in the middle, one near the first corner and one near the last."""
    near = [size // 8 for size in grid]
    far = [size - 1 - margin for size, margin in zip(grid, near)]
    middle = [size // 2 for size in grid]
    return list(dict.fromkeys(tuple(patch) for patch in (middle, near, far)))


def gate_quantiles(scan: Scan) -> Tensor:
    """The gates of each head: (heads, 1) where it has one, else quantiles over the patches."""
    gates = scan.log_gates[0].double().exp()
    if gates.shape[1] == 1:
        return gates
    levels = gates.new_tensor([*QUANTILES.values()])
    return gates[:, 1:].quantile(levels, dim=1).T  # without the class token, whose gate is 1


def half_life(gate: float) -> float:
    """After how many tokens half is left."""
    return math.log(0.5) / math.log(gate) if 0 < gate < 1 else (math.inf if gate else 0.0)


def print_gates(layers: Sequence[dict[str, Scan]]) -> None:
    """Print the gates of every layer, scan and head, and the half-life of one or of the median."""
    for index, scans in enumerate(layers):
        for name, scan in scans.items():
            for head, gates in enumerate(gate_quantiles(scan).tolist()):
                kinds = ['gate'] if len(gates) == 1 else QUANTILES
                shown = ' '.join(f'{kind} {gate:.4f}' for kind, gate in zip(kinds, gates))
                tokens = half_life(gates[len(gates) // 2])
                print(f'layer {index}, {name}, head {head}: {shown}, half-life {tokens:.4g} tokens')


# The picture


def draw(
    image: np.ndarray,
    patch_size: int,
    grid: tuple[int, int],
    layers: Sequence[dict[str, Scan]],
    layer: int,
    selections: Sequence[Selection],
    title: str,
    path: Path,
) -> None:
    """Draw image and scans, a row of masks for each selection, and the gates of all layers."""
    names = list(selections[0].rows)
    is_constant = gate_quantiles(layers[0][names[0]]).shape[1] == 1
    across = max(1 + len(names), 3)
    down = 1 + len(selections)
    num_scans = len(layers[0])
    gates_height = 1.2 + 0.45 * len(layers) if is_constant else 2.4 * num_scans + 0.5
    masks_height = down * (PANEL * min(max(grid[0] / grid[1], 0.5), 2.0) + 0.3)
    figure = plt.figure(
        figsize=(across * PANEL + 0.9, masks_height + gates_height + 0.6),
        layout='constrained',
    )
    figure.suptitle(title, fontsize=13)
    masks_part, gates_part = figure.subfigures(2, 1, height_ratios=[masks_height, gates_height])
    axes = masks_part.subplots(down, across, squeeze=False)
    canvas = Canvas(image, patch_size, grid)

    colours = dict(zip(dict.fromkeys(s.patch for s in selections), COLOURS * down))
    canvas.show(axes[0, 0], 'the image and the chosen patches')
    for patch, colour in colours.items():
        canvas.mark(axes[0, 0], patch, colour)
    for axis, (name, scan) in zip(axes[0, 1:], layers[layer].items()):
        canvas.show(axis, f'the scan {name}', FADED)
        canvas.draw_order(axis, scan.order)
    for row, selection in zip(axes[1:], selections):
        colour = colours[selection.patch]
        place = ', '.join(map(str, selection.patch))
        canvas.show(row[0], f'patch ({place}), {selection.heads}')
        canvas.mark(row[0], selection.patch, colour)
        for axis, (name, mask) in zip(row[1:], selection.rows.items()):
            canvas.show(axis, f'{name}; class token {mask[0]:.2f}', FADED)
            canvas.draw_mask(axis, mask)
            canvas.mark(axis, selection.patch, colour)
    for unused in (*axes[0, 1 + num_scans :], *axes[1:, 1 + len(names) :].flat):
        unused.set_axis_off()
    axes[0, -1].text(0, 0.5, LEGEND, transform=axes[0, -1].transAxes, va='center', fontsize=9)
    scale = ScalarMappable(Normalize(0, 1), MASK_COLOURS)
    label = 'decay mask: the share that is left of what the framed patch reads'
    masks_part.colorbar(
        scale, ax=axes[1:], label=label, alpha=MASK_OPACITY, aspect=40 * len(selections) / 3
    )

    (draw_constant_gates if is_constant else draw_selected_gates)(gates_part, layers, layer)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


class Canvas(NamedTuple):
    """An image to draw on, in units of patches."""

    image: np.ndarray
    patch_size: int
    grid: tuple[int, int]

    def show(self, axis: Axes, title: str, opacity: float = 1.0) -> None:
        """Show the image, in as many patches as there are, the last ones partly padding."""
        height, width = np.divide(self.image.shape[:2], self.patch_size)
        axis.imshow(self.image, extent=(-0.5, width - 0.5, height - 0.5, -0.5), alpha=opacity)
        axis.set(xlim=(-0.5, self.grid[1] - 0.5), ylim=(self.grid[0] - 0.5, -0.5))
        axis.set_title(title, fontsize=9)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=7)

    def mark(self, axis: Axes, patch: tuple[int, int], colour: tuple) -> None:
        """Frame a patch."""
        corner = (patch[1] - 0.5, patch[0] - 0.5)
        axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=colour, linewidth=2.5))

    def draw_order(self, axis: Axes, order: Tensor | None) -> None:
        """Draw a scan of the patches as a line from a dot to an arrow."""
        rows, columns = self.grid
        patches = np.arange(rows * columns) if order is None else order[1:].numpy() - 1
        y, x = patches // columns, patches % columns
        axis.plot(x, y, color='tab:red', linewidth=1)
        axis.plot(x[0], y[0], 'o', color='tab:red')
        if len(patches) > 1:
            axis.annotate(
                '',
                (x[-1], y[-1]),
                (x[-2], y[-2]),
                arrowprops=dict(arrowstyle='-|>', color='tab:red', mutation_scale=14),
            )

    def draw_mask(self, axis: Axes, mask: Tensor) -> None:
        """Draw what is read from each patch, in numbers too where they fit."""
        values = mask[1:].view(self.grid).numpy()
        axis.imshow(values, cmap=MASK_COLOURS, vmin=0, vmax=1, alpha=MASK_OPACITY)
        if max(self.grid) <= MOST_NUMBERS:
            write_numbers(axis, values, lambda value: f'{value:.2f}' if value >= 0.005 else '', 6.5)


def write_numbers(
    axis: Axes, values: np.ndarray, write: Callable[[float], str], size: float
) -> None:
    """Write numbers from 0 to 1 into the cells of a picture of them."""
    for (row, column), value in np.ndenumerate(values):
        colour = 'white' if value > 0.55 else 'black'
        axis.text(column, row, write(value), ha='center', va='center', fontsize=size, color=colour)


def draw_constant_gates(
    figure: Figure | SubFigure, layers: Sequence[dict[str, Scan]], layer: int
) -> None:
    """Draw the gate and the half-life of each layer and head, a table for each scan."""
    figure.suptitle(
        'learned decay of each token, and below it after how many tokens half is left '
        f'(framed: layer {layer})',
        fontsize=11,
    )
    axes = figure.subplots(1, len(layers[0]), squeeze=False)[0]
    for axis, name in zip(axes, layers[0]):
        gates = torch.cat([gate_quantiles(scans[name]) for scans in layers], 1).T.numpy()
        shown = axis.imshow(gates, cmap=MASK_COLOURS, vmin=0, vmax=1, aspect='auto')
        write_numbers(axis, gates, lambda gate: f'{gate:.3f}\n{half_life(gate):.3g}', 8)
        axis.add_patch(
            Rectangle(
                (-0.5, layer - 0.5), gates.shape[1], 1, fill=False, edgecolor='red', linewidth=2
            )
        )
        axis.set(xticks=range(gates.shape[1]), yticks=range(len(layers)))
        axis.set(xlabel='head', ylabel='layer', title=name)
    figure.colorbar(shown, ax=axes, label='decay')


def draw_selected_gates(
    figure: Figure | SubFigure, layers: Sequence[dict[str, Scan]], layer: int
) -> None:
    """Draw the quantiles of the gates of each layer and head, a diagram for each scan."""
    figure.suptitle(
        'decays that the tokens of this image select: median, quartiles and extremes '
        f'(shaded: layer {layer})',
        fontsize=11,
    )
    axes = figure.subplots(len(layers[0]), 1, squeeze=False, sharex=True)[:, 0]
    keys = ('whislo', 'q1', 'med', 'q3', 'whishi')
    for axis, name in zip(axes, layers[0]):
        for index, scans in enumerate(layers):
            heads = gate_quantiles(scans[name]).tolist()
            width = 0.8 / len(heads)
            for head, gates in enumerate(heads):
                colour = COLOURS[head % len(COLOURS)]
                boxes = axis.bxp(
                    [dict(zip(keys, gates), label='')],
                    positions=[index + (head - (len(heads) - 1) / 2) * width],
                    widths=0.8 * width,
                    showfliers=False,
                    patch_artist=True,
                    manage_ticks=False,
                    boxprops=dict(facecolor=colour, alpha=0.6),
                    medianprops=dict(color='black'),
                )
                if axis is axes[0] and index == 0:
                    boxes['boxes'][0].set_label(f'head {head}')
        axis.axvspan(layer - 0.5, layer + 0.5, color='tab:red', alpha=0.1)
        axis.set(ylim=(-0.02, 1.02), xlim=(-0.5, len(layers) - 0.5), ylabel='decay', title=name)
        axis.grid(axis='y', alpha=0.3)
    axes[-1].set(xticks=range(len(layers)), xlabel='layer')
    figure.legend(loc='outside right center', fontsize=8)


def main() -> None:
    """Draw."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    register_safe_loaders()
    model = build_model(cfg, args.checkpoint)
    backbone = find_lion(model)
    depth = len(backbone.layers)
    if not -depth <= args.layer < depth:
        raise ConfigError(
            f'--layer must be from {-depth} to {depth - 1}, of {depth} layers, got {args.layer}'
        )
    layer = args.layer % depth
    image, images = load_image(cfg, model, args.image)
    layers, grid = read_scans(backbone, images)
    selections = select(layers[layer], grid, args.patches, args.head)
    weights = Path(args.checkpoint).name if args.checkpoint else 'INITIAL weights, no checkpoint'
    title = f'{Path(args.config).stem}, layer {layer} of 0 to {depth - 1}: {weights}'
    path = Path(args.out or f'{cfg.work_dir}/lion-layer{layer}.png')
    draw(image, backbone.patch_embed.patch_size, grid, layers, layer, selections, title, path)
    print_gates(layers)
    print(f'{title}\n{path}')


if __name__ == '__main__':
    with one_line_errors():
        main()
