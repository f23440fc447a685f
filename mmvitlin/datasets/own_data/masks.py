"""Images for semantic segmentation: a folder of images, and one of maps of classes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmvitlin.datasets.own_data.summary import (
    DataSummary,
    check_splits,
    draw_split,
    existing_folder,
    images_below,
    notes_on_counts,
    read_sizes,
    shorten,
    split_folders,
)
from mmvitlin.errors import ConfigError

IGNORED = 255  # label of pixels that are ignored in training and metrics
INDEX_MODES = ('1', 'L', 'P')  # of Pillow: one number up to 255 per pixel


def inspect_masks(
    data: str | Path,
    name: str,
    masks: str | Path,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> DataSummary:
    """Inspect images and their masks, PNG files of the same names whose pixels are labels.

    Both folders may have a folder for each split, such as train/ and val/. Without splits, a fifth
    of the images is held out.

    Args:
        data: the folder of the images.
        name: beginning of the names of the lists to write.
        masks: the folder of the masks.
        classes: the names of labels 0, 1 and so on; by default 'class 0', 'class 1'.
        seed: seed of the split.

    Returns:
        The summary. `details` has the endings `img_suffix` and `seg_map_suffix`, the folder
        `masks`, and `pixels`, the number of pixels of each class to train on.

    Raises:
        ConfigError: a folder is not there, no image has a mask, files have several endings, masks
            are not labels, or there are more labels than names.
    """
    root, mask_root = existing_folder(data), existing_folder(masks)
    splits = split_folders(root)
    found, unreadable = read_sizes(images_below(root))
    by_stem = {
        path.relative_to(mask_root).with_suffix(''): path for path in images_below(mask_root)
    }
    pairs, broken = {}, dict(unreadable)
    for path in found:
        stem = path.relative_to(root).with_suffix('')
        if stem in by_stem:
            pairs[stem] = (path, by_stem[stem])
        else:
            broken[str(path)] = f'there is no mask {mask_root / stem}.png'
    labels: dict[Path, Counter[int]] = {}
    for stem, (path, mask) in pairs.items():
        counted, reason = _labels_of(mask, found[path])
        if counted is None:
            broken[str(mask)] = reason
        else:
            labels[stem] = counted
    pairs = {stem: pairs[stem] for stem in labels}
    if not pairs:
        reasons = [f'{path}: {reason}' for path, reason in broken.items()]
        raise ConfigError(
            f'no image below {root} has a mask below {mask_root} that can be used; '
            f'{next(iter(reasons), "there is no image")}'
        )
    names = _name_labels(classes, labels, mask_root)
    if splits:
        train, val = ([stem for stem in pairs if root / stem.parts[0] == splits[k]] for k in splits)
    else:
        train, val = draw_split([list(pairs)], seed)
    check_splits(train, val, root, broken)
    counts = {
        split: Counter(names[label] for stem in stems for label in labels[stem])
        for split, stems in (('train', train), ('val', val))
    }
    pixels = sum((labels[stem] for stem in train), Counter[int]())
    return DataSummary(
        root=root,
        classes=names,
        train=len(train),
        val=len(val),
        counts=counts,
        example=pairs[val[0]][0],
        sizes=tuple(found[path] for path, _ in pairs.values()),
        files={split: Path(f'{name}_{split}.txt') for split in ('train', 'val')},
        new_files={
            f'{name}_{split}.txt': ''.join(f'{stem.as_posix()}\n' for stem in stems)
            for split, stems in (('train', train), ('val', val))
        },
        broken=broken,
        notes=tuple(notes_on_counts(names, counts)),
        details=dict(
            img_suffix=_only_ending([path for path, _ in pairs.values()], 'images'),
            seg_map_suffix=_only_ending([mask for _, mask in pairs.values()], 'masks'),
            masks=mask_root,
            pixels=tuple(pixels[label] for label in range(len(names))),
        ),
    )


def _labels_of(mask: Path, size: tuple[int, int]) -> tuple[Counter[int] | None, str]:
    """Count the labels in a mask, 255 aside; or return None, and why it cannot be used."""
    try:
        with Image.open(mask) as image:
            if image.mode not in INDEX_MODES:
                return None, f'it is a picture in {image.mode}, not one label per pixel'
            if image.size != size:
                return None, f'it has {image.size} pixels and its image {size}'
            values, counts = np.unique(np.array(image), return_counts=True)
    except Exception as error:  # a decoder raises anything for a damaged file
        return None, f'{type(error).__name__}: {str(error).replace(str(mask), "the file")}'
    found = dict(zip(values.astype(int).tolist(), counts.tolist()))
    found.pop(IGNORED, None)
    return Counter(found), ''


def _name_labels(
    classes: Sequence[str] | None, labels: dict[Path, Counter[int]], folder: Path
) -> tuple[str, ...]:
    """Return a name for each label."""
    present = set().union(*labels.values())
    if len(present) < 2:
        raise ConfigError(
            f'the masks below {folder} have the labels {sorted(present)} besides {IGNORED}, which '
            f'is ignored, and two or more are needed: 0 for the first class, 1 for the second. '
            f'Masks of 0 and {IGNORED} have to be written as 0 and 1'
        )
    needed = max(present) + 1
    if classes is None:
        return tuple(f'class {label}' for label in range(needed))
    if len(classes) < needed:
        raise ConfigError(
            f'the masks below {folder} have labels up to {needed - 1}, and {len(classes)} classes '
            f'are named ({shorten(classes)}); name {needed}, or set pixels of no class to {IGNORED}'
        )
    return tuple(classes)


def _only_ending(paths: Sequence[Path], what: str) -> str:
    """Return the ending that all files have: mmsegmentation takes one."""
    endings = sorted({path.suffix for path in paths})
    if len(endings) > 1:
        raise ConfigError(
            f'{what} end in {" and ".join(endings)}, and mmsegmentation takes one ending; write '
            'them all in one format'
        )
    return endings[0]
