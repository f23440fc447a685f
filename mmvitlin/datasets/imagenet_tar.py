"""ImageNet read from its tar files, without unpacking them."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmvitlin.datasets.tar_backend import TarError, member_uri
from mmvitlin.datasets.tar_index import read_tar_index
from mmvitlin.registry import DATASETS, register

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # mmpretrain's


@register(DATASETS)
class ImageNetTar(BaseDataset):
    """mmpretrain's ImageNet, read from one tar file per split, which is never unpacked.

    A tar file holds class folders or, like the official training set, one tar file per class.
    Samples, their order and their labels are the same as with unpacked folders. The classes are the
    sorted names of the folders, or come from an annotation file; the official validation set has no
    folders and needs one. `LoadImageFromFile` reads the `img_path` of a sample, so pipelines need
    no change. The `sample_name` of a sample is its path in the unpacked folders. Any number of
    workers and processes may read at the same time.

    The first use indexes the tar file, with a progress bar, and writes the index to a file.

    Args:
        data_root: the folder of the tar files.
        split: 'train' or 'val'.
        tar: the tar file in `data_root`; by default '<split>.tar'.
        ann_file: a text file in `data_root` with a line 'NAME LABEL' per image; by default
            'meta/<split>.txt' if it exists.
        index_dir: the folder of the index; by default that of the tar file.
        metainfo: `dict(classes=...)`; by default the 1000 classes of ImageNet.
        pipeline, indices, test_mode, lazy_init: as in mmengine.

    Raises:
        ValueError: another `split`.
        FileNotFoundError: the tar file does not exist.
        TarError: the tar file is cut off or damaged, with the name of the member; it contains
            images without a class, empty images, no image, or another number of classes than
            `metainfo`; or `ann_file` has the name of a missing image, or a label out of range.
    """

    def __init__(
        self,
        data_root: str = '',
        split: str = 'train',
        tar: str = '',
        ann_file: str = '',
        index_dir: str | None = None,
        metainfo: dict | None = None,
        pipeline: Sequence[dict] = (),
        indices: int | list[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        if split not in ('train', 'val'):
            raise ValueError(f"ImageNetTar has the splits 'train' and 'val', got {split!r}")
        if metainfo is None:
            from mmpretrain.datasets.categories import IMAGENET_CATEGORIES

            metainfo = dict(classes=IMAGENET_CATEGORIES)
        root = Path(data_root).expanduser()
        self.split = split
        self.tar = (root / (tar or f'{split}.tar')).absolute()
        self.index_dir = Path(index_dir).expanduser() if index_dir else None
        if not ann_file and (root / 'meta' / f'{split}.txt').is_file():
            ann_file = f'meta/{split}.txt'
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=str(root),
            data_prefix=dict(),
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """List the images in the tar file, with their classes."""
        if not self.tar.is_file():
            raise FileNotFoundError(f'there is no {self.tar}: check data_root and tar')
        places, folders = self._find_images()
        labels = self._read_labels(places) if self.ann_file else self._label(places, folders)
        if not labels:
            raise TarError(f'{self.tar} has no image ({", ".join(EXTENSIONS)}) in a class folder')
        return [
            dict(
                img_path=member_uri(self.tar, name, *places[name]), gt_label=label, sample_name=name
            )
            for name, label in labels
        ]

    def get_gt_labels(self) -> np.ndarray:
        """Return the classes of all samples, (samples,) int64, as mmpretrain's data sets do."""
        return np.array([self.get_cat_ids(i)[0] for i in range(len(self))], np.int64)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes of sample `idx`; samplers that balance classes read them."""
        return [self.get_data_info(idx)['gt_label']]

    def _find_images(self) -> tuple[dict[str, tuple[int, int]], set[str]]:
        """Return image -> (offset, size), and the set of top folders.

        A folder that has the name of the split and contains everything is skipped.
        """
        index = read_tar_index(self.tar, self.index_dir)
        wrapper = f'{self.split}/'
        wrapped = all(name.startswith(wrapper) or name == './' for name in index.names)
        places, folders = {}, set()
        for name, offset, size in zip(index.names, index.offsets.tolist(), index.sizes.tolist()):
            name = name.removeprefix(wrapper) if wrapped else name
            folder, slash, _ = name.partition('/')
            if slash and folder not in ('', '.'):
                folders.add(folder)
            hidden = name.rpartition('/')[2].startswith('.')
            if name.lower().endswith(EXTENSIONS) and not hidden:
                if size == 0:
                    raise TarError(f'{name} in {self.tar} is empty: pack the image again')
                places[name] = (offset, size)
        return places, folders

    def _label(
        self, places: dict[str, tuple[int, int]], folders: set[str]
    ) -> list[tuple[str, int]]:
        """Return the images, sorted by folder and name, and the numbers of their folders."""
        loose = next((name for name in places if '/' not in name), None)
        if loose is not None:
            raise TarError(
                f'{self.tar} holds images outside of class folders, such as {loose}: their classes '
                "must come from ann_file, a line 'NAME LABEL' for each"
            )
        if len(folders) != len(self.metainfo['classes']):
            raise TarError(
                f'{self.tar} has {len(folders)} class folders or tars, and metainfo has '
                f'{len(self.metainfo["classes"])} classes'
            )
        numbers = {folder: number for number, folder in enumerate(sorted(folders))}
        ordered = sorted(name.split('/', 1) for name in places)
        empty = folders - {folder for folder, _ in ordered}
        if empty:
            print_log(
                f'{self.tar} has no image in {", ".join(sorted(empty))}', 'current', logging.WARNING
            )
        return [(f'{folder}/{rest}', numbers[folder]) for folder, rest in ordered]

    def _read_labels(self, places: dict[str, tuple[int, int]]) -> list[tuple[str, int]]:
        """Return images and labels in the order of the annotation file."""
        try:
            lines = Path(self.ann_file).read_text().splitlines()
        except UnicodeDecodeError as error:
            raise TarError(
                f"{self.ann_file} is not a text of lines 'NAME LABEL': {error}"
            ) from error
        labels, num_classes = [], len(self.metainfo['classes'])
        for number, line in enumerate(lines, start=1):
            name, _, label = line.strip().rpartition(' ')
            if name not in places or not label.isdecimal():
                raise TarError(
                    f"{self.ann_file}, line {number}: expected 'NAME LABEL' of an image in "
                    f'{self.tar}, got {line!r}'
                )
            if int(label) >= num_classes:
                raise TarError(
                    f'{self.ann_file}, line {number}: label {label} is out of range, metainfo has '
                    f'{num_classes} classes'
                )
            labels.append((name, int(label)))
        return labels
