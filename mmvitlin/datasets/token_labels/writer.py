"""Writing the label maps of a data set, in any number of processes.

A run that was stopped can be started again: label maps that are whole are kept. With the same batch
size, the files are the same to the bit as those of a run without a stop.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.dist import all_reduce, barrier, get_rank, get_world_size
from mmengine.registry import DATASETS
from mmengine.utils import ProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.datasets.token_labels.files import (
    TokenLabelError,
    name_some,
    read_label_map,
    write_label_map,
)
from mmvitlin.errors import ConfigError

SETTINGS = 'settings.json'  # the file that says how the label maps of its folder were made
# Transforms that choose the part of an image that is seen, and its size. One resize replaces them.
FRAMING = ('Resize', 'ResizeEdge', 'CenterCrop', 'EfficientNetCenterCrop')

Label = Callable[[dict], tuple[Tensor, Tensor]]


def build_whole_images(
    cfg: Config, input_size: int | None = None
) -> tuple[BaseDataset, tuple[int, int], list[dict]]:
    """Build the training set of a config with a pipeline that shows each image whole.

    Args:
        cfg: a config of mmpretrain. The pipeline is that of its test set, with one resize instead
            of what crops and resizes.
        input_size: height and width of the images; by default those that the test pipeline makes.

    Returns:
        The data set, the size (height, width) of its images, and its pipeline.

    Raises:
        ConfigError: the config lacks a data set, or its pipeline does not fit.
    """
    for part in ('train_dataloader', 'test_dataloader'):
        if cfg.get(part) is None:
            raise ConfigError(
                f'the config has no {part}: label maps are made for the training set, with the '
                'pipeline of the test set'
            )
    pipeline = list(_unwrap(cfg.test_dataloader.dataset)['pipeline'])
    settings = {**_unwrap(cfg.train_dataloader.dataset), 'test_mode': True}
    if input_size is None:
        tested = DATASETS.build({**settings, 'pipeline': pipeline})
        size = tuple(tested[0]['inputs'].shape[-2:])
    else:
        size = (input_size, input_size)
    pipeline = show_whole_images(pipeline, size)
    images = DATASETS.build({**settings, 'pipeline': pipeline})
    found = tuple(images[0]['inputs'].shape[-2:])
    if found != size:
        raise ConfigError(
            f'the test pipeline makes images of {found}, expected {size}: replace the transform '
            f'that resizes them by one of {", ".join(FRAMING)}'
        )
    return images, size, pipeline


def _unwrap(dataset: dict) -> dict:
    """Return the settings inside wrappers such as RepeatDataset and TokenLabelDataset."""
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'datasets' in dataset:
        raise ConfigError(
            f'the training set is a {dataset["type"]} of several data sets: label one at a time, '
            'by --cfg-options or by a config for each'
        )
    return dataset


def show_whole_images(pipeline: Sequence[dict], size: tuple[int, int]) -> list[dict]:
    """Replace the cropping and resizing of a pipeline by one resize to `size` (height, width).

    Raises:
        ConfigError: a crop or resize that cannot be replaced.
    """
    steps = [step for step in pipeline if step['type'] not in FRAMING]
    unknown = [s['type'] for s in steps if 'Crop' in str(s['type']) or 'Resize' in str(s['type'])]
    if unknown:
        raise ConfigError(
            f'{", ".join(unknown)} in the test pipeline may cut off a part of the image, and a '
            f'label map covers the whole image: use {", ".join(FRAMING)} there'
        )
    framing = [step for step in pipeline if step['type'] in FRAMING]
    options = {
        key: step[key] for step in framing for key in ('interpolation', 'backend') if key in step
    }
    position = pipeline.index(framing[0]) if framing else len(steps) - 1  # before packing
    steps.insert(position, dict(type='Resize', scale=size[::-1], **options))
    return steps


def check_classes(images: BaseDataset, num_classes: int, topk: int) -> None:
    """Check that a teacher of `num_classes` can label a data set with `topk` classes per place.

    Raises:
        ConfigError: the data set has another number of classes, or `topk` is larger than it.
    """
    expected = images.metainfo.get('classes')
    if expected is not None and len(expected) != num_classes:
        raise ConfigError(
            f'the teacher has {num_classes} classes, and the data set has {len(expected)}: give a '
            'teacher that was trained on the same classes'
        )
    if topk > num_classes:
        raise ConfigError(
            f'topk is {topk}, and the teacher has {num_classes} classes: give at most {num_classes}'
        )


def digest(settings: object) -> str:
    """Return the SHA-256 checksum of a part of a config."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_settings(out: Path, decisive: dict, **source: str) -> None:
    """Write `SETTINGS` into a new folder, or check that the folder was made with the same ones.

    Args:
        out: the folder of label maps; it is created.
        decisive: all that the label maps depend on.
        source: further entries to write, which are not compared.

    Raises:
        ConfigError: the label maps in `out` were made with other or unknown settings.
    """
    path = out / SETTINGS
    if get_rank() == 0 and not path.is_file():
        if next(out.rglob('*.pt'), None) is not None:
            raise ConfigError(
                f'{out} holds label maps, and no {SETTINGS} that says how they were made: write to '
                'another folder'
            )
        with atomic_write(path) as partial:
            partial.write_text(json.dumps(dict(decisive=decisive, **source), indent=1) + '\n')
    barrier()
    try:
        kept = json.loads(path.read_text())['decisive']
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'{path} cannot be read ({error}): write to another folder') from error
    given = json.loads(json.dumps(decisive))
    differing = [key for key in given if kept.get(key) != given[key]]
    if differing:
        text = ', '.join(f'{key} {kept.get(key)}, not {given[key]}' for key in differing)
        raise ConfigError(
            f'{out} holds label maps of another run ({text}): write to another folder, or repeat '
            f'the run of {path}'
        )


def write_label_maps(
    out: Path,
    images: BaseDataset,
    names: Sequence[str],
    label: Label,
    shape: tuple[int, int, int],
    num_classes: int,
    batch_size: int = 64,
    workers: int = 4,
) -> int:
    """Write the label maps that are missing or damaged; each process writes a part of them.

    The batches do not depend on the number of processes or on the existing files, since other
    images in a batch can change the last bits of the logits.

    Args:
        out: the folder of label maps.
        images: the data set.
        names: the file of each image, from `label_names`.
        label: the teacher. It maps a batch, as `pseudo_collate` joins samples, to scores and
            classes on the CPU, (B, K, H, W) each.
        shape: (K, H, W).
        num_classes: classes of the teacher.
        batch_size: images per batch.
        workers: processes that load images.

    Returns:
        The number of files that all processes wrote.
    """
    batches = [
        list(range(start, min(start + batch_size, len(names))))
        for start in range(0, len(names), batch_size)
    ][get_rank() :: get_world_size()]
    work = find_work(out, names, batches, shape, num_classes)
    loader = DataLoader(
        images,
        batch_sampler=[batch for batch, _ in work],
        num_workers=workers,
        collate_fn=pseudo_collate,
    )
    written = 0
    pairs = zip(_show_progress(f'Writing label maps to {out}', work), loader)
    for (batch, lacking), loaded in pairs:
        for index, scores, classes in zip(batch, *label(loaded)):
            if index in lacking:
                write_label_map(out / names[index], scores, classes, num_classes)
        written += len(lacking)
    total = torch.tensor(written)
    all_reduce(total)  # also waits for the other processes
    return int(total.item())


def find_work(
    out: Path,
    names: Sequence[str],
    batches: Sequence[list[int]],
    shape: tuple[int, int, int],
    num_classes: int,
) -> list[tuple[list[int], set[int]]]:
    """Find the batches with missing or damaged label maps, and print the names of damaged ones.

    Returns:
        Each such batch, and those of its indices whose label map is missing or damaged.
    """
    if next(out.rglob('*.pt'), None) is None:
        return [(batch, set(batch)) for batch in batches]
    work, damaged = [], []
    title = f'Checking the label maps in {out}'
    for batch, lacking in _show_progress(title, [(batch, set()) for batch in batches]):
        for index in batch:
            if not (out / names[index]).is_file():
                lacking.add(index)
                continue
            try:
                read_label_map(str(out), names[index], num_classes, shape)
            except TokenLabelError:
                lacking.add(index)
                damaged.append(names[index])
        if lacking:
            work.append((batch, lacking))
    if damaged:
        named = name_some(sorted(damaged))
        print(f'{len(damaged)} damaged label maps are written again: {named}', flush=True)
    return work


def _show_progress(
    title: str, batches: Sequence[tuple[list[int], set[int]]]
) -> Iterator[tuple[list[int], set[int]]]:
    """Iterate over batches, with a progress bar over their images in the first process."""
    if get_rank() > 0:
        yield from batches
        return
    print(title, flush=True)
    bar = ProgressBar(sum(len(batch) for batch, _ in batches), file=sys.stdout)
    for batch in batches:
        yield batch
        bar.update(len(batch[0]))
    print(flush=True)
