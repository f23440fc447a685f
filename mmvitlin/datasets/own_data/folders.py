"""Images for classification: one folder per class."""

from collections import Counter
from pathlib import Path

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


def inspect_folders(data: str | Path, name: str, seed: int = 0) -> DataSummary:
    """Inspect images in one folder per class.

    `data` contains the folders of classes, or a folder per split, such as train/ and val/, that
    contains them. Without splits, a fifth of each class is held out.

    Args:
        data: the folder.
        name: beginning of the names of the lists to write.
        seed: seed of the split.

    Raises:
        ConfigError: there is no such folder, there are fewer than two classes or no images, or a
            class of one split has no folder in the train split.
    """
    root = existing_folder(data)
    splits = split_folders(root)
    train_root = splits['train'] if splits else root
    classes = tuple(sorted(path.name for path in train_root.iterdir() if _is_class(path)))
    if len(classes) < 2:
        raise ConfigError(
            f'{train_root} has {len(classes)} folders, and classification needs one folder per '
            'class and two classes or more: DATA/cat/1.jpg, DATA/dog/2.jpg'
        )
    sizes: dict = {}
    broken: dict[str, str] = {}
    groups: dict = {}
    for split, folder in (splits or {'all': root}).items():
        unknown = sorted({p.name for p in folder.iterdir() if _is_class(p)} - set(classes))
        if unknown:
            raise ConfigError(
                f'{folder} has classes that {train_root} lacks: {", ".join(unknown)}; each class '
                'to validate on needs a folder to train on'
            )
        paths = {label: images_below(folder / name) for label, name in enumerate(classes)}
        found, unreadable = read_sizes([path for group in paths.values() for path in group])
        sizes |= found
        broken |= unreadable
        groups[split] = [
            [(p, label) for p in group if p in found] for label, group in paths.items()
        ]
    if splits:
        train, val = ([s for group in groups[k] for s in group] for k in ('train', 'val'))
    else:
        train, val = draw_split(groups['all'], seed)
    check_splits(train, val, root, broken)
    counts = {
        split: Counter(classes[label] for _, label in samples)
        for split, samples in (('train', train), ('val', val))
    }
    lists = {
        f'{name}_{split}.txt': ''.join(
            f'{path.relative_to(root).as_posix()} {label}\n' for path, label in samples
        )
        for split, samples in (('train', train), ('val', val))
    }
    return DataSummary(
        root=root,
        classes=classes,
        train=len(train),
        val=len(val),
        counts=counts,
        example=val[0][0],
        sizes=tuple(sizes.values()),
        files={split: Path(f'{name}_{split}.txt') for split in ('train', 'val')},
        new_files=lists,
        broken=broken,
        notes=(*notes_on_counts(classes, counts), *_notes_on_names([path for path, _ in val])),
    )


def _notes_on_names(paths: list[Path]) -> list[str]:
    """Note images whose drawn predictions overwrite each other."""
    twice = [name for name, count in Counter(path.name for path in paths).items() if count > 1]
    if not twice:
        return []
    return [
        f'{shorten(twice)}: several images to validate on have this name, and mmpretrain names '
        'the pictures of --show-dir by it: the last one stays'
    ]


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(('.', '__'))
