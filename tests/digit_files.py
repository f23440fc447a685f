"""Digits written to disk as ImageNet is: class folders, and tar files of them."""

import tarfile
from pathlib import Path

from PIL import Image

from mmvitlin.datasets import Digits


def write_folders(root: Path, split: str, count: int) -> Path:
    """One folder per digit, in root/split; upper-case endings and deeper folders among them."""
    for index, digit in enumerate(Digits(split, indices=count)):
        folder = root / split / f'n{digit["gt_label"]:02}'
        if index % 7 == 0:
            folder /= 'more'
        folder.mkdir(parents=True, exist_ok=True)
        ending = 'PNG' if index % 3 == 0 else 'png'
        Image.fromarray(digit['img']).save(folder / f'{index:04}.{ending}', format='png')
    (root / split / 'n00' / 'notes.txt').write_text('no image')
    (root / split / 'n00' / '.hidden.png').write_text('no image')
    return root / split


def pack_flat(folders: Path, tar: Path, *, name: str = '.') -> None:
    """Class folders in one tar, as `tar -C FOLDERS -cf TAR .` packs them."""
    with tarfile.open(tar, 'w') as archive:
        archive.add(folders, name)


def pack_wrapped(folders: Path, tar: Path) -> None:
    """The same below a folder named like the split."""
    pack_flat(folders, tar, name=folders.name)


def pack_classes(folders: Path, tar: Path) -> None:
    """The official form: one tar file that contains a tar file per class, in no order."""
    with tarfile.open(tar, 'w') as archive:
        for folder in sorted(folders.iterdir(), reverse=True):
            inner = tar.with_name(f'{folder.name}.tar')
            with tarfile.open(inner, 'w') as of_class:
                for path in folder.iterdir():
                    of_class.add(path, path.name)
            archive.add(inner, inner.name)
            inner.unlink()


PACKINGS = {'flat': pack_flat, 'wrapped': pack_wrapped, 'a tar a class': pack_classes}
