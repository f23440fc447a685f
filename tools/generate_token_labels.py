"""Write label maps for token labeling: a teacher's best classes at each place of every image.

CONFIG and CHECKPOINT are a trained classifier of mmpretrain's that pools a feature map; timm's, by
TimmClassifier, are among them. It looks at the whole images of the config's training set, resized
to one size; its neck and head are applied to each place of its last feature map, and the logits
resized to --size x --size. The --topk best scores and classes of each place are written to OUT, a
file an image in the folders of the images, as `mmvitlin.TokenLabelDataset` reads them. Scores are
logits: targets take a softmax of them.

A run that was cut off goes on when it is started again: whole files stay, the others are made, and
for the same --batch-size they are the same to the bit as those of a run that was not, whatever the
number of processes. tools/dist_generate_token_labels.sh starts several.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.dist import all_reduce, barrier, get_rank, get_world_size, init_dist
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.utils import ProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmvitlin.checkpoints.atomic_backend import AtomicLocalBackend
from mmvitlin.checkpoints.safe_load import register_safe_loaders
from mmvitlin.datasets.token_labels.files import (
    TokenLabelError,
    label_names,
    name_some,
    read_label_map,
    write_label_map,
)
from mmvitlin.engine.launcher import (
    PLACES,
    add_cfg_options,
    existing_checkpoint,
    has_accelerator,
    load_config,
    load_whole,
    one_line_errors,
    set_launcher,
)
from mmvitlin.errors import ConfigError
from mmvitlin.models.dense_logits import DenseLogits, NoFeatureMapError

SETTINGS = 'settings.json'  # in OUT: what its label maps were made with
# Transforms that choose what of an image is seen, and at what size: one plain resize replaces them.
FRAMING = ('Resize', 'ResizeEdge', 'CenterCrop', 'EfficientNetCenterCrop')


class Teacher(NamedTuple):
    """What looks at the images, and how."""

    logits: DenseLogits
    preprocess: nn.Module
    device: str
    amp: bool


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', metavar='CONFIG', help="the teacher's config")
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help="the teacher's weights")
    parser.add_argument('out', metavar='OUT', type=Path, help='the folder to write to')
    parser.add_argument(
        '--size', type=int, default=18, help='sides of a label map, 18 as published by default'
    )
    parser.add_argument('--topk', type=int, default=5, help='classes at each place, 5 by default')
    parser.add_argument(
        '--input-size',
        type=int,
        help='sides of the images that the teacher sees; by default those that its tests show it. '
        'A map of its own size needs no resizing: 576 makes 18 x 18 at stride 32',
    )
    parser.add_argument(
        '--batch-size', type=int, default=64, help='images at a time, 64 by default'
    )
    parser.add_argument('--workers', type=int, default=4, help='processes that load, 4 by default')
    parser.add_argument('--amp', action='store_true', help='run the teacher in mixed precision')
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher', choices=['none', *PLACES], default='none', help='what starts the processes'
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ('size', 'topk', 'input_size', 'batch_size'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1, got {value}')
    if args.workers < 0:
        parser.error(f'--workers must be at least 0, got {args.workers}')
    return args


# The images and the teacher


def innermost(dataset: dict) -> dict:
    """The settings of the dataset inside wrappers such as RepeatDataset and TokenLabelDataset."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'datasets' in dataset:
        raise ConfigError(
            f'the training set is a {dataset["type"]} of several: label one at a time, by '
            '--cfg-options or in configs of their own'
        )
    return dataset


def build_images(
    cfg: Config, input_size: int | None
) -> tuple[BaseDataset, tuple[int, int], list[dict]]:
    """Build the training set, whole images of one size coming out of it.

    Returns:
        The dataset, the size (height, width), and the pipeline.
    """
    for part in ('train_dataloader', 'test_dataloader'):
        if cfg.get(part) is None:
            raise ConfigError(
                f'the config has no {part}: images come from the training set, and go through the '
                'pipeline of tests'
            )
    steps = list(innermost(cfg.test_dataloader.dataset)['pipeline'])
    settings = {**innermost(cfg.train_dataloader.dataset), 'test_mode': True}
    if input_size is None:
        tested = DATASETS.build({**settings, 'pipeline': steps})
        input_size = tuple(tested[0]['inputs'].shape[-2:])
    else:
        input_size = (input_size, input_size)
    steps = show_all(steps, input_size)
    images = DATASETS.build({**settings, 'pipeline': steps})
    seen = tuple(images[0]['inputs'].shape[-2:])
    if seen != input_size:
        raise ConfigError(
            f'the pipeline of tests makes images of {seen}, expected {input_size}: replace what '
            f'sizes them by one of {", ".join(FRAMING)}'
        )
    return images, input_size, steps


def show_all(steps: Sequence[dict], size: tuple[int, int]) -> list[dict]:
    """Let a pipeline show the whole of an image, resized to `size` (height, width)."""
    shown = [step for step in steps if step['type'] not in FRAMING]
    unknown = [s['type'] for s in shown if 'Crop' in str(s['type']) or 'Resize' in str(s['type'])]
    if unknown:
        raise ConfigError(
            f'{", ".join(unknown)} in the pipeline of tests may hide a part of the image, and a '
            f'label map is of the whole of it: use {", ".join(FRAMING)} there'
        )
    framing = [step for step in steps if step['type'] in FRAMING]
    how = {
        key: step[key] for step in framing for key in ('interpolation', 'backend') if key in step
    }
    where = steps.index(framing[0]) if framing else len(shown) - 1  # before it is packed
    shown.insert(where, dict(type='Resize', scale=size[::-1], **how))
    return shown


def build_teacher(cfg: Config, checkpoint: str, amp: bool) -> Teacher:
    """Build the classifier with its weights, in evaluation."""
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(cfg.model)
    load_whole(model, existing_checkpoint(checkpoint))
    model = revert_sync_batchnorm(model).to(get_device())
    teacher = DenseLogits(model)
    teacher.eval()
    return Teacher(teacher, model.data_preprocessor, get_device(), amp)


@torch.no_grad()
def label(teacher: Teacher, batch: dict, size: int, topk: int) -> tuple[Tensor, Tensor]:
    """Label a batch: scores and classes, (B, K, size, size) each."""
    images = teacher.preprocess(batch, False)['inputs']
    with torch.autocast(teacher.device.split(':')[0]) if teacher.amp else nullcontext():
        logits = teacher.logits(images)
    logits = logits.float()
    if logits.shape[-2:] != (size, size):
        logits = F.interpolate(logits, (size, size), mode='bilinear', antialias=True)
    return logits.topk(topk, dim=1)


@torch.no_grad()
def count_classes(teacher: Teacher, images: BaseDataset, topk: int) -> int:
    """How many classes the teacher knows; those of the images, or an error."""
    batch = teacher.preprocess(pseudo_collate([images[0]]), False)
    classes = teacher.logits(batch['inputs']).shape[1]
    expected = images.metainfo.get('classes')
    if expected is not None and len(expected) != classes:
        raise ConfigError(
            f'the teacher has {classes} classes, and the images {len(expected)}: its labels would '
            'be taken for others'
        )
    if topk > classes:
        raise ConfigError(f'--topk {topk} of {classes} classes: give at most {classes}')
    return classes


# What is there already


def settings_of(
    args: argparse.Namespace,
    cfg: Config,
    teacher: Teacher,
    steps: list[dict],
    input_size: tuple[int, int],
    classes: int,
) -> dict:
    """What decides about label maps, and where it came from."""
    weights = hashlib.sha256()
    for name, weight in teacher.logits.model.state_dict().items():
        weights.update(name.encode())
        weights.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    decisive = dict(
        weights=weights.hexdigest(),
        model=digest(cfg.model.to_dict()),
        pipeline=digest(steps),
        input_size=input_size,
        classes=classes,
        size=args.size,
        topk=args.topk,
        amp=args.amp,
    )
    return dict(decisive=decisive, config=args.config, checkpoint=args.checkpoint)


def digest(settings: object) -> str:
    """A fingerprint of a part of a config."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_settings(out: Path, settings: dict) -> None:
    """Refuse a folder whose label maps were made in another way; remember how otherwise."""
    path = out / SETTINGS
    if get_rank() == 0 and not path.is_file():
        if next(out.rglob('*.pt'), None) is not None:
            raise ConfigError(
                f'{out} holds label maps, and no {SETTINGS} that says how they were made: write to '
                'another folder'
            )
        AtomicLocalBackend().put_text(json.dumps(settings, indent=1) + '\n', path)
    barrier()
    try:
        kept = json.loads(path.read_text())['decisive']
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'{path} cannot be read ({error}): write to another folder') from error
    asked = json.loads(json.dumps(settings['decisive']))
    differing = [key for key in asked if kept.get(key) != asked[key]]
    if differing:
        what = ', '.join(f'{key} {kept.get(key)}, not {asked[key]}' for key in differing)
        raise ConfigError(
            f'{out} holds label maps of another run ({what}): write to another folder, or repeat '
            f'that run, of {path}'
        )


def find_work(
    out: Path,
    names: Sequence[str],
    batches: Sequence[list[int]],
    shape: tuple[int, int, int],
    classes: int,
) -> list[tuple[list[int], set[int]]]:
    """The batches that lack files, and which; damaged files are named and count as lacking."""
    if next(out.rglob('*.pt'), None) is None:
        return [(batch, set(batch)) for batch in batches]
    bar = start_bar(f'Checking the label maps in {out}', sum(map(len, batches)))
    work, damaged = [], []
    for batch in batches:
        lacking = {index for index in batch if not (out / names[index]).is_file()}
        for index in set(batch) - lacking:
            try:
                read_label_map(str(out), names[index], classes, shape)
            except TokenLabelError:
                lacking.add(index)
                damaged.append(names[index])
        if lacking:
            work.append((batch, lacking))
        advance(bar, len(batch))
    finish(bar)
    if damaged:
        named = name_some(sorted(damaged))
        print(f'{len(damaged)} damaged label maps are made again: {named}', flush=True)
    return work


def write_all(
    args: argparse.Namespace,
    teacher: Teacher,
    images: BaseDataset,
    names: Sequence[str],
    num_classes: int,
) -> int:
    """Write the label maps that are not there yet; return how many all processes wrote."""
    # Batches are the same however many processes share them, and whatever is done already: what is
    # in a batch can change the last bits of its logits.
    batches = [
        list(range(start, min(start + args.batch_size, len(names))))
        for start in range(0, len(names), args.batch_size)
    ][get_rank() :: get_world_size()]
    work = find_work(args.out, names, batches, (args.topk, args.size, args.size), num_classes)
    loader = DataLoader(
        images,
        batch_sampler=[batch for batch, _ in work],
        num_workers=args.workers,
        collate_fn=pseudo_collate,
    )
    bar = start_bar(f'Writing label maps to {args.out}', sum(len(batch) for batch, _ in work))
    written = torch.zeros((), dtype=torch.int64, device=teacher.device)
    for (batch, lacking), loaded in zip(work, loader):
        scores, classes = (x.cpu() for x in label(teacher, loaded, args.size, args.topk))
        for place, index in enumerate(batch):
            if index in lacking:
                path = args.out / names[index]
                write_label_map(path, scores[place], classes[place], num_classes)
        written += len(lacking)
        advance(bar, len(batch))
    finish(bar)
    all_reduce(written)  # also waits for the others
    return written.item()


# Progress, of the first process's share


def start_bar(title: str, total: int) -> ProgressBar | None:
    """Show a bar in the first process."""
    if get_rank() > 0:
        return None
    print(title, flush=True)
    return ProgressBar(total, file=sys.stdout)


def advance(bar: ProgressBar | None, count: int) -> None:
    """Move the bar on."""
    if bar is not None:
        bar.update(count)


def finish(bar: ProgressBar | None) -> None:
    """End the line of the bar."""
    if bar is not None:
        print(flush=True)


def main() -> None:
    """Label what is not labelled yet."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    if cfg.default_scope != 'mmpretrain':
        raise ConfigError(f'teachers are classifiers of mmpretrain, got scope {cfg.default_scope}')
    if args.out.exists() and not args.out.is_dir():
        raise ConfigError(f'OUT is a folder to write to, and {args.out} is a file')
    register_safe_loaders()
    init_default_scope(cfg.default_scope)
    set_launcher(cfg, args.launcher)
    if args.launcher != 'none' and has_accelerator():
        init_dist(args.launcher)
    torch.backends.cudnn.deterministic = True  # the same files whenever a run is repeated

    images, input_size, steps = build_images(cfg, args.input_size)
    try:
        names = label_names(images)
        teacher = build_teacher(cfg, args.checkpoint, args.amp)
        num_classes = count_classes(teacher, images, args.topk)
    except (NoFeatureMapError, TokenLabelError) as error:
        raise ConfigError(str(error)) from error
    check_settings(args.out, settings_of(args, cfg, teacher, steps, input_size, num_classes))

    written = write_all(args, teacher, images, names, num_classes)
    if get_rank() == 0:
        kept = len(names) - written
        print(f'{args.out}: {len(names)} label maps, {written} written now, {kept} before')


if __name__ == '__main__':
    with one_line_errors():
        main()
