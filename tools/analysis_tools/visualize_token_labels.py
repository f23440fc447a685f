"""Draw images with their token labels, as the training pipeline returns them.

The panel next to an image shows the targets: each patch has the colour of its most likely class,
with an opacity that grows with its probability. A label map that is not cropped and flipped like
its image shows as classes next to their objects. The titles give the label of the image, and the
most likely class of the whole crop with its probability.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor

from mmvitlin.datasets import TokenLabelDataset
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors
from mmvitlin.errors import ConfigError
from mmvitlin.ops.token_labels import token_label_targets

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

COLOURS = (*plt.get_cmap('tab10').colors, *plt.get_cmap('Dark2').colors)
OTHERS = (0.5, 0.5, 0.5)  # classes beyond those colours
OPACITY = 0.75  # of the colour of a class with probability 1
PANEL = 2.6  # inches


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the training')
    parser.add_argument(
        '--num', type=int, default=8, help='number of images (default: %(default)s)'
    )
    parser.add_argument(
        '--patches', type=int, default=14, help='rows and columns of patches (default: %(default)s)'
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='seed of the choice of images and of their crops (default: %(default)s)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='the picture to write (default: token_labels.png in the work directory)',
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    for name in ('num', 'patches'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    return args


def build_dataset(cfg: Config) -> BaseDataset:
    """Build the training set of a config."""
    dataset = cfg.train_dataloader.dataset if cfg.get('train_dataloader') else {}
    while 'pipeline' not in dataset and 'dataset' in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset['dataset']
    if str(dataset.get('type')).rpartition('.')[2] != TokenLabelDataset.__name__:
        raise ConfigError(
            'the training set has no label maps: give a config whose train_dataloader has an '
            f'mmvitlin.TokenLabelDataset, not {dataset.get("type")}'
        )
    try:
        return DATASETS.build(dataset)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def as_picture(image: Tensor, is_bgr: bool) -> np.ndarray:
    """Convert an image (C, H, W) with values from 0 to 255 to (H, W, 3) in RGB."""
    rgb = (image.flip(0) if is_bgr else image).expand(3, -1, -1)
    return rgb.permute(1, 2, 0).clamp(0, 255).byte().numpy()


def draw_labels(axis: Axes, picture: np.ndarray, labels: Tensor, colours: dict) -> None:
    """Draw the most likely classes of patches, labels (C, n, n), over their image."""
    certain, classes = labels.max(0)
    overlay = torch.tensor([[colours.get(c, OTHERS) for c in row] for row in classes.tolist()])
    overlay = torch.cat((overlay, OPACITY * certain[..., None]), 2).numpy()
    height, width = picture.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(picture)
    axis.imshow(overlay, extent=extent, interpolation='nearest')


def draw(path: Path, samples: list[dict], patches: int, names: list[str], is_bgr: bool) -> None:
    """Draw the samples into a file, image and labels side by side."""
    packed = [sample['data_samples'] for sample in samples]
    targets = token_label_targets(
        torch.stack([sample.token_label_map for sample in packed]),
        torch.stack([sample.token_label_box for sample in packed]),
        len(names),
        patches,
        smoothing=0.0,
    )
    whole = targets[:, :, 1]
    labels = targets[:, :, -patches * patches :].unflatten(2, (patches, patches))
    frequent = torch.bincount(labels.argmax(1).flatten(), minlength=len(names)).argsort(
        descending=True, stable=True
    )
    shown = set(labels.argmax(1).flatten().tolist())
    colours = {c: COLOURS[i] for i, c in enumerate(frequent.tolist()[: len(COLOURS)]) if c in shown}

    columns = min(len(samples), 4)
    rows = -(-len(samples) // columns)
    figure, axes = plt.subplots(
        rows,
        2 * columns,
        figsize=(2 * columns * PANEL, (rows + 0.4) * PANEL),
        squeeze=False,
        layout='constrained',
    )
    for axis in axes.flat:
        axis.axis('off')
    for number, (sample, of_sample) in enumerate(zip(samples, packed)):
        row, column = divmod(number, columns)
        image, over = axes[row, 2 * column : 2 * column + 2]
        picture = as_picture(sample['inputs'], is_bgr)
        image.imshow(picture)
        image.set_title(names[int(of_sample.gt_label)], fontsize=9)
        draw_labels(over, picture, labels[number], colours)
        share, best = whole[number].max(0)
        over.set_title(f'{names[best]}: {share:.2f}', fontsize=9)
    handles = [Patch(color=colour, label=names[c]) for c, colour in colours.items()]
    if len(shown) > len(colours):
        handles.append(Patch(color=OTHERS, label=f'{len(shown) - len(colours)} others'))
    figure.legend(handles=handles, loc='outside lower center', ncols=min(len(handles), 8))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    """Draw the picture."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    init_default_scope(cfg.default_scope)
    dataset = build_dataset(cfg)
    np.random.seed(args.seed)
    chosen = np.random.permutation(len(dataset))[: args.num]
    try:
        samples = [dataset[int(index)] for index in chosen]
    except ValueError as error:  # damaged label maps, or a pipeline that drops them
        raise ConfigError(str(error)) from error
    names = [str(name).split(',')[0] for name in dataset.metainfo.get('classes') or ()]
    if not names:
        most = max(int(sample['data_samples'].token_label_map[1].max()) for sample in samples)
        most = max(most, *(int(sample['data_samples'].gt_label) for sample in samples))
        names = [str(number) for number in range(most + 1)]
    preprocessor = cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor') or {}
    path = args.out or Path(cfg.work_dir) / 'token_labels.png'
    draw(path, samples, args.patches, names, preprocessor.get('to_rgb', False))
    print(path)


if __name__ == '__main__':
    with one_line_errors():
        main()
