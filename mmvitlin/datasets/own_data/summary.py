"""Summary of a data set, and the steps that all kinds of data share."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from PIL import Image

from mmvitlin.errors import ConfigError

ENDINGS = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
TRAIN_NAMES = ('train', 'training')
VAL_NAMES = ('val', 'valid', 'validation', 'test', 'testing')
VAL_SHARE = 0.2  # of the images, where the data has no split
DECODED_AT_MOST = 20_000  # images; of larger data only the headers are read
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class DataSummary:
    """Classes, splits, sizes and problems of a data set.

    Attributes:
        root: the folder that the samples' paths start from.
        classes: the names, in the order of their labels.
        train, val: the number of images of each split.
        counts: split -> class -> images (classification, segmentation) or boxes (detection).
        example: one of the images.
        sizes: (width, height) of every image that could be read.
        files: split -> the annotation file to use: the given one, or a new one of this name.
        new_files: name of a file to write beside the config -> its content.
        broken: path -> reason why the file was left out.
        notes: sentences for the user.
        details: settings of the host's data set that only this kind of data has.
    """

    root: Path
    classes: tuple[str, ...]
    train: int
    val: int
    counts: Mapping[str, Mapping[str, int]]
    example: Path
    sizes: tuple[tuple[int, int], ...]
    files: dict[str, Path]
    new_files: dict[str, str]
    broken: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: dict = field(default_factory=dict)

    def side(self) -> int:
        """Return the median of the images' shorter sides in pixels."""
        return int(median(min(size) for size in self.sizes))

    def describe(self) -> str:
        """Describe the data in a few lines: counts, sizes, broken files, notes."""
        widths, heights = zip(*self.sizes)
        lines = [
            f'{self.train} images to train on, {self.val} to validate on, '
            f'{len(self.classes)} classes; {_span(widths)} pixels wide, {_span(heights)} high',
            *(
                f'  {name}: {self.counts["train"].get(name, 0)} train, '
                f'{self.counts["val"].get(name, 0)} val'
                for name in self.classes
            ),
        ]
        if self.broken:
            lines.append(f'{len(self.broken)} files are left out:')
            lines += [f'  {path}: {reason}' for path, reason in self.broken.items()]
        return '\n'.join([*lines, *(f'note: {note}' for note in self.notes)])


def _span(sides: Sequence[int]) -> str:
    smallest, largest = min(sides), max(sides)
    return f'{smallest}' if smallest == largest else f'{smallest} to {largest}'


def existing_folder(path: str | Path) -> Path:
    """Return the absolute path of a folder.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f'there is no folder {folder}; check the path, from {Path.cwd()}')
    return folder


def images_below(folder: Path) -> list[Path]:
    """Return the paths of all images below a folder, sorted; hidden files are no images."""
    return sorted(
        path
        for path in folder.rglob('*')
        if path.suffix.lower() in ENDINGS and not path.name.startswith('.') and path.is_file()
    )


def split_folders(root: Path) -> dict[str, Path] | None:
    """Return split -> folder if `root` has folders of both splits, else None."""
    names = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    train = next((names[name] for name in TRAIN_NAMES if name in names), None)
    val = next((names[name] for name in VAL_NAMES if name in names), None)
    return {'train': train, 'val': val} if train and val else None


def read_sizes(paths: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], dict[str, str]]:
    """Read images, to find the broken ones.

    Returns:
        Path -> (width, height) of what can be read; path -> reason for the others. Of more than
        20,000 images only the headers are read.
    """
    sizes, broken = {}, {}
    for path in paths:
        try:
            with Image.open(path) as image:
                if len(paths) <= DECODED_AT_MOST:
                    image.load()
                sizes[path] = image.size
        except Exception as error:  # a decoder raises anything for a damaged file
            reason = str(error).replace(str(path), 'the file')
            broken[str(path)] = f'{type(error).__name__}: {reason}'
    return sizes, broken


def draw_split(groups: Iterable[Sequence], seed: int) -> tuple[list, list]:
    """Split samples at random, a fifth of each group to validate on.

    A group of two or more gives at least one sample to each side; a single sample trains.

    Args:
        groups: samples by class, or all samples as one group.
        seed: seed of the split.

    Returns:
        Samples to train on and to validate on, each in the order of the groups.
    """
    generator = random.Random(seed)
    train: list = []
    val: list = []
    for group in groups:
        count = max(round(VAL_SHARE * len(group)), 1) if len(group) > 1 else 0
        held_out = set(generator.sample(range(len(group)), count))
        for index, sample in enumerate(group):
            (val if index in held_out else train).append(sample)
    return train, val


def check_splits(train: Sequence, val: Sequence, root: Path, broken: dict[str, str]) -> None:
    """Check that there are images to train and to validate on.

    Raises:
        ConfigError: a split is empty.
    """
    if not train or not val:
        detail = f' ({len(broken)} files could not be read: {shorten(broken)})' if broken else ''
        raise ConfigError(
            f'{root} gives {len(train)} images to train on and {len(val)} to validate on, and '
            f'both need at least one{detail}'
        )


def notes_on_counts(classes: Sequence[str], counts: dict[str, Counter]) -> list[str]:
    """Return notes on classes that are rare or missing in a split."""
    notes = []
    for split, reason in (('train', 'cannot be learned'), ('val', 'will not be validated')):
        absent = [name for name in classes if not counts[split].get(name)]
        if absent:
            notes.append(f'{shorten(absent)}: not in the {split} split, {reason}')
    present = [counts['train'][name] for name in classes if counts['train'].get(name)]
    if present and max(present) > 10 * min(present):
        notes.append(
            f'the largest class has {max(present)} and the smallest {min(present)} to train on: '
            'accuracy over all images hides the small ones'
        )
    return notes


def shorten(names: Iterable[str]) -> str:
    """Join the first few names, and count the others."""
    names = list(names)
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more
