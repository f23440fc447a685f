"""Figures of the documentation, drawn from the code: models are built and ops are run.

    python docs/_site/figures.py        # writes docs/images/architecture.svg, which README.md shows

The other figures are drawn when the site is built.
"""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmvitlin.curricula.efficient_train.hook import EfficientTrainHook  # noqa: E402
from mmvitlin.curricula.token_expansion.hook import TokenExpansionHook  # noqa: E402
from mmvitlin.datasets import DigitScenes  # noqa: E402
from mmvitlin.models.backbones.l2vit import L2ViT, LocalWindowBlock  # noqa: E402
from mmvitlin.models.backbones.lion import LION  # noqa: E402
from mmvitlin.models.backbones.lvvit import LVViT  # noqa: E402
from mmvitlin.models.backbones.vit_llama import ViTLLaMA  # noqa: E402
from mmvitlin.ops import low_frequency_crop, snake_orders  # noqa: E402
from mmvitlin.ops.decayed_attention import Scan, decay_mask  # noqa: E402
from mmvitlin.ops.token_expansion import select_tokens  # noqa: E402

BLUE, ORANGE, GREEN, RED, GREY, VIOLET = (
    '#4c78a8',
    '#f28e2b',
    '#59a14f',
    '#e15759',
    '#9aa0a6',
    '#8e6cb0',
)
# The same bytes for the same drawing: no date, no random identifiers; text stays text.
STYLE = {'svg.fonttype': 'none', 'svg.hashsalt': 'mmvitlin', 'font.family': 'sans-serif'}


def to_svg(figure: Figure) -> bytes:
    """Write a figure as SVG."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format='svg', metadata={'Date': None}, bbox_inches='tight')
    return re.sub(rb' +\n', b'\n', buffer.getvalue())


def box(
    axis: Axes, x: float, y: float, width: float, height: float, colour: str, text: str = ''
) -> None:
    """Draw a rounded box with a text in its middle."""
    style = 'round,pad=0,rounding_size=0.08'
    axis.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=colour, edgecolor='none'))
    axis.text(x + width / 2, y + height / 2, text, ha='center', va='center', fontsize=8, color='w')


def arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = '#555'
) -> None:
    """Draw an arrow."""
    axis.annotate('', end, start, arrowprops=dict(arrowstyle='-|>', color=colour, linewidth=1))


def blocks_of(model: nn.Module) -> list[tuple[str, list[str]]]:
    """List the groups of blocks of a backbone: (label, colours of its blocks)."""
    if isinstance(model, L2ViT):
        strides = model.out_strides
        return [
            (
                f'stride {stride}',
                [BLUE if isinstance(block, LocalWindowBlock) else ORANGE for block in stage],
            )
            for stride, stage in zip(strides, block_lists(model))
        ]
    colour = ORANGE if isinstance(model, LION) else BLUE
    groups = [(f'{len(model.layers)} layers', [colour] * len(model.layers))]
    if isinstance(model, ViTLLaMA):
        groups.append(('frozen LLaMA block', [GREY]))
    return groups


def block_lists(model: L2ViT) -> list[list[nn.Module]]:
    """Return the blocks of each stage of an L2ViT."""
    kinds = ('LocalWindowBlock', 'LinearGlobalBlock')
    return [
        [module for module in stage.modules() if type(module).__name__ in kinds]
        for stage in model.stages
    ]


def millions(model: nn.Module) -> float:
    """Count the parameters of a model, in millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def architecture() -> Figure:
    """Draw the four backbones, and where the curricula and the teacher take part."""
    with torch.device('meta'):
        models = {
            'L2ViT-tiny': L2ViT(arch='tiny', out_indices=(0, 1, 2, 3)),
            'LION-small': LION(arch='small'),
            'ViT-LLaMA-small': ViTLLaMA(arch='small'),
            'LV-ViT-small': LVViT(arch='small'),
        }
    ends = ['maps at 4 strides', 'vector or map', 'vector or map', 'a label per token']
    figure = Figure(figsize=(10.5, 4.6))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 21), ylim=(-1.9, 8.4))
    axis.axis('off')
    for row, ((name, model), end) in enumerate(zip(models.items(), ends)):
        y = 6.2 - 1.9 * row
        axis.text(0.1, y + 0.62, name, fontsize=10, weight='bold', va='center')
        axis.text(0.1, y + 0.18, f'{millions(model):.1f}M', fontsize=8, color='#555', va='center')
        stem = '4 convs' if isinstance(model, LVViT) else '2 convs' if row == 0 else 'patches'
        box(axis, 5.1, y, 1.5, 0.8, GREEN, stem)
        groups, x = blocks_of(model), 7.0
        width = 0.42 if row else 0.5
        for label, colours in groups:
            start = x
            for colour in colours:
                wide = 1.7 if colour == GREY else width
                box(axis, x, y, wide - 0.06, 0.8, colour)
                x += wide
            axis.text((start + x) / 2, y - 0.22, label, fontsize=7.5, ha='center', color='#555')
            x += 0.25
        arrow(axis, (6.65, y + 0.4), (6.98, y + 0.4))
        arrow(axis, (x - 0.2, y + 0.4), (17.3, y + 0.4))
        box(axis, 17.4, y, 3.3, 0.8, VIOLET, end)
    axis.add_patch(Rectangle((3.2, -0.6), 1.1, 8.0, facecolor='#e8eef5', edgecolor='none'))
    axis.text(3.75, 3.4, 'image', rotation=90, ha='center', va='center', fontsize=10)
    sizes = EfficientTrainHook().input_size
    notes = [
        (3.75, f'EfficientTrain\n{sizes[0]} to {sizes[-1]} pixels'),
        (7.4, 'token expansion\nof plain ViTs'),
        (19.0, 'distillation and\ntoken labels'),
    ]
    for x, note in notes:
        axis.text(x, 7.95, note, fontsize=8.5, ha='center', va='center', color=RED)
        arrow(axis, (x, 7.6), (x, 7.1), RED)
    kinds = {
        'embedding': GREEN,
        'softmax attention': BLUE,
        'linear attention': ORANGE,
        'frozen': GREY,
        'output': VIOLET,
        'training only': RED,
    }
    handles = [Patch(color=colour, label=name) for name, colour in kinds.items()]
    axis.legend(handles=handles, loc='lower center', ncols=6, frameon=False, fontsize=8.5)
    return figure


def l2vit() -> Figure:
    """Draw what one token of a window block and of a global block reads."""
    figure = Figure(figsize=(9, 3.1))
    axes = figure.subplots(1, 3)
    size, window, at = 28, 7, (10, 16)
    local = np.zeros((size, size))
    row, column = (index // window * window for index in at)
    local[row : row + window, column : column + window] = 1
    distance = np.add.outer((np.arange(size) - at[0]) ** 2, (np.arange(size) - at[1]) ** 2)
    reach = 6  # the concentration module reads two 7 x 7 convolutions
    near = np.maximum(*np.abs(np.mgrid[:size, :size] - np.array(at)[:, None, None])) <= reach
    panels = {
        'even block: softmax attention\nin windows of 7 x 7': local,
        'odd block: linear attention\nover the whole map': np.full((size, size), 0.55),
        'and its local concentration\n(two 7 x 7 convolutions)': near * np.exp(-distance / 18.0),
    }
    for axis, (title, shown) in zip(axes, panels.items()):
        axis.imshow(shown, cmap='Blues', vmin=0, vmax=1.2)
        axis.plot(at[1], at[0], 's', color=RED, markersize=5)
        for line in range(0, size + 1, window):
            axis.axhline(line - 0.5, color='#bbb', linewidth=0.5)
            axis.axvline(line - 0.5, color='#bbb', linewidth=0.5)
        axis.set_title(title, fontsize=9)
        axis.set(xticks=[], yticks=[])
    return figure


def lion() -> Figure:
    """Draw the two scans of order S, and the decay of one token's weights along them."""
    side, gate = 9, 0.75
    token = 4 * side + 4
    scans = snake_orders(side, side, torch.device('cpu'), 0)
    log_gates = torch.full((1, 1, 1), gate).log()
    rows = decay_mask(Scan(log_gates), side * side, torch.float32)[0, 0, token]
    natural: Tensor = torch.stack(
        [
            decay_mask(Scan(log_gates, order), side * side, torch.float32)[0, 0, token]
            for order in scans
        ]
    ).sum(0)
    figure = Figure(figsize=(9.5, 2.9))
    axes = figure.subplots(1, 4)
    for axis, scan, title in zip(axes[:2], scans, ('first scan of order S', 'second scan')):
        y, x = np.divmod(scan.numpy(), side)
        axis.plot(x, y, color=ORANGE, linewidth=1.5)
        axis.plot(x[0], y[0], 'o', color=GREEN)
        axis.set_title(title, fontsize=9)
        axis.set(xlim=(-0.7, side - 0.3), ylim=(side - 0.3, -0.7), aspect='equal')
    for axis, mask, title in zip(
        axes[2:], (rows, natural / 2), ("decay, order 'Normal'", "decay, order 'S'")
    ):
        axis.imshow(mask.view(side, side), cmap='Oranges', vmin=0, vmax=1)
        axis.plot(4, 4, 's', color=RED, markersize=4)
        axis.set_title(title, fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure


def chunks() -> Figure:
    """Draw the decay mask of a sequence, cut into chunks."""
    length, size = 24, 6
    generator = torch.Generator().manual_seed(1)
    gates = 0.75 + 0.24 * torch.rand(1, 1, length, generator=generator)
    mask = decay_mask(Scan(gates.log()), length, torch.float32)[0, 0]
    figure = Figure(figsize=(8.4, 3.6))
    left, right = figure.subplots(1, 2)
    for axis in (left, right):
        axis.imshow(mask, cmap='Oranges', vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[], xlabel='token j that is read', ylabel='token i that reads')
        for line in range(0, length + 1, size):
            axis.axhline(line - 0.5, color='w', linewidth=1)
            axis.axvline(line - 0.5, color='w', linewidth=1)
    left.set_title('naive: every entry of M', fontsize=9)
    right.set_title('chunk: the matrix in the boxes, states elsewhere', fontsize=9)
    for row in range(0, length, size):
        for column in range(0, length, size):
            if row == column:
                square = Rectangle((column - 0.5, row - 0.5), size, size, fill=False)
                square.set(edgecolor=RED, linewidth=2, zorder=3)
                right.add_patch(square)
            else:
                text = 'S' if column < row else "S'"
                right.text(
                    column + size / 2 - 0.5,
                    row + size / 2 - 0.5,
                    text,
                    ha='center',
                    va='center',
                    fontsize=9,
                )
    return figure


def vit_llama() -> Figure:
    """Draw the modules after the last layer of the ViT, with their widths."""
    with torch.device('meta'):
        model = ViTLLaMA(arch='small')
    figure = Figure(figsize=(9, 1.7))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 18), ylim=(0, 3.2))
    axis.axis('off')
    steps = [
        (f'{len(model.layers)} layers of ViT\nwidth {model.embed_dims}', BLUE),
        (f'linear\n{model.llama_in.in_features} to {model.llama_in.out_features}', GREEN),
        ('last block of LLaMA-7B\nfrozen, no mask, no rotary', GREY),
        (f'linear\n{model.llama_out.in_features} to {model.llama_out.out_features}', GREEN),
        ('norm, class token,\nhead', VIOLET),
    ]
    for index, (text, colour) in enumerate(steps):
        x = 0.2 + 3.6 * index
        box(axis, x, 1.0, 3.1, 1.3, colour, text)
        if index:
            arrow(axis, (x - 0.48, 1.65), (x - 0.02, 1.65))
    axis.text(8.95, 0.5, 'gradients pass through, weights stay', ha='center', fontsize=9)
    return figure


def lvvit() -> Figure:
    """Draw an image, labels of its patches and the two losses."""
    scene = DigitScenes('train', 'segmentation', 1, cache_dir=None)[0]
    labels = torch.as_tensor(scene['gt_seg_map'].copy()).unfold(0, 16, 16).unfold(1, 16, 16)
    patch_labels = labels.flatten(2).max(-1).values
    figure = Figure(figsize=(8.4, 2.9))
    axes = figure.subplots(1, 3)
    axes[0].imshow(scene['img'][..., ::-1])
    axes[0].set_title('image', fontsize=9)
    axes[1].imshow(patch_labels, cmap='tab20', vmin=0, vmax=10, interpolation='nearest')
    axes[1].set_title('a label per patch', fontsize=9)
    mix = patch_labels.clone()
    mix[2:6, 3:7] = patch_labels.flip(1)[2:6, 3:7]
    axes[2].imshow(mix, cmap='tab20', vmin=0, vmax=10, interpolation='nearest')
    axes[2].add_patch(Rectangle((2.5, 1.5), 4, 4, fill=False, edgecolor=RED, linewidth=2))
    axes[2].set_title("MixToken: a box of\nanother image's patches", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure


def token_expansion() -> Figure:
    """Draw the patches of a scene that each stage keeps, selected by the op itself."""
    scene = DigitScenes('train', 'detection', 6, cache_dir=None)[5]['img'][..., ::-1].copy()
    pixels = torch.as_tensor(scene).float()
    side, patch = 16, 8
    patches = pixels.unfold(0, patch, patch).unfold(1, patch, patch).reshape(1, side * side, -1)
    patches = patches - patches.mean((1, 2), keepdim=True)
    expansion = TokenExpansionHook().expansion
    figure = Figure(figsize=(9.5, 2.7))
    axes = figure.subplots(1, 4)
    stages = [(f'stage {stage}', stage) for stage in range(1, len(expansion.keep_rate) + 1)]
    for axis, (title, stage) in zip(axes, [('image', 0), *stages]):
        selected = select_tokens(
            patches,
            stage,
            expansion.keep_rate,
            expansion.initialization_keep_rate,
            expansion.expansion_multiple_stage,
            expansion.distance,
        )
        kept = torch.ones(side * side) if selected is None else torch.zeros(side * side)
        if selected is not None:
            kept[selected[0][0]] = 1
        mask = kept.view(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1)
        shown = pixels / 255 * mask[..., None] + (1 - mask[..., None])
        axis.imshow(shown.numpy())
        axis.set_title(f'{title}: {int(kept.sum())} of {side * side} patches', fontsize=9)
        axis.set(xticks=[], yticks=[])
    return figure


def frequency_crop() -> Figure:
    """Draw a scene, its spectrum, and its low-frequency crops."""
    scene = DigitScenes('train', 'detection', 6, cache_dir=None)[5]['img'][..., ::-1].copy()
    pixels = torch.as_tensor(scene).permute(2, 0, 1).float()[None]
    spectrum = torch.fft.fftshift(torch.fft.fft2(pixels.mean(1)), dim=(-2, -1)).abs().log1p()[0]
    sizes = (128, 96, 64)
    figure = Figure(figsize=(9.5, 2.7))
    axes = figure.subplots(1, len(sizes) + 1)
    axes[0].imshow(spectrum, cmap='magma')
    for size, colour in zip(sizes[1:], (GREEN, ORANGE)):
        corner = 128 // 2 - size // 2 - 0.5
        square = Rectangle((corner, corner), size, size, fill=False, edgecolor=colour, linewidth=2)
        axes[0].add_patch(square)
    axes[0].set_title('spectrum (log), and two crops', fontsize=9)
    for axis, size in zip(axes[1:], sizes):
        image = low_frequency_crop(pixels, size)[0].permute(1, 2, 0).clamp(0, 255) / 255
        axis.imshow(image.numpy())
        axis.set_title(f'{size} x {size} pixels', fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    return figure


def efficient_train() -> Figure:
    """Draw the default curriculum: image size and magnitude over the training."""
    hook = EfficientTrainHook()
    edges = [*hook.schedule.steps, 1.0]
    assert hook.magnitude_level is not None
    figure = Figure(figsize=(7.5, 2.6))
    axis = figure.subplots()
    axis.stairs(hook.input_size, edges, color=BLUE, linewidth=2, label='image size')
    axis.set(xlabel='part of the training', ylabel='pixels', ylim=(140, 235))
    other = axis.twinx()
    other.stairs(hook.magnitude_level, edges, color=ORANGE, linewidth=2)
    other.set_ylabel('magnitude of RandAugment', color=ORANGE)
    other.set_ylim(0, 10)
    axis.yaxis.label.set_color(BLUE)
    return figure


def distillation() -> Figure:
    """Draw the two losses of a distilled student."""
    figure = Figure(figsize=(8, 2.2))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 16), ylim=(0, 4.4))
    axis.axis('off')
    box(axis, 0.2, 1.6, 2.2, 1.1, GREEN, 'batch,\nmixed')
    box(axis, 4.0, 2.7, 3.6, 1.1, GREY, 'frozen teacher\n(timm or mmpretrain)')
    box(axis, 4.0, 0.5, 3.6, 1.1, BLUE, 'student\n(any classifier)')
    box(axis, 9.4, 2.7, 6.2, 1.1, ORANGE, 'alpha x hard or soft distillation loss')
    box(axis, 9.4, 0.5, 6.2, 1.1, VIOLET, '(1 - alpha) x loss of the labels')
    for start, end in (
        ((2.45, 2.3), (3.95, 3.2)),
        ((2.45, 2.0), (3.95, 1.1)),
        ((7.65, 3.25), (9.35, 3.25)),
        ((7.65, 1.05), (9.35, 1.05)),
        ((7.65, 1.4), (9.35, 2.8)),
    ):
        arrow(axis, start, end)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    'architecture': architecture,
    'l2vit': l2vit,
    'lion': lion,
    'chunks': chunks,
    'vit-llama': vit_llama,
    'lvvit': lvvit,
    'token-expansion': token_expansion,
    'frequency-crop': frequency_crop,
    'efficient-train': efficient_train,
    'distillation': distillation,
}

if __name__ == '__main__':
    target = ROOT / 'docs/images/architecture.svg'
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(to_svg(architecture()))
    sys.stdout.write(f'{target.relative_to(ROOT)}\n')
