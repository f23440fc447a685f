"""Data set of images with label maps, for token labeling (arXiv 2104.10858)."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import get_rank
from mmengine.fileio import get_file_backend
from mmengine.logging import print_log
from mmengine.utils import track_iter_progress
from torch import Tensor

from mmvitlin.datasets.token_labels.files import (
    TokenLabelError,
    label_names,
    name_some,
    read_label_map,
)
from mmvitlin.ops.token_labels import WHOLE_IMAGE
from mmvitlin.registry import DATASETS, register

ENTRIES = ('token_label_map', 'token_label_box')  # of a sample
REMEDY = (
    'Write them by tools/generate_token_labels.py, which keeps the files that are there, or set '
    "missing='image_label' to train on the labels of these images"
)
# Transforms of the hosts that move the image without its label map -> transforms that move both.
FOLLOWED_BY = {
    'RandomFlip': 'mmvitlin.TokenLabelFlip',
    'RandomResizedCrop': 'mmvitlin.TokenLabelCrop around it',
    'LoadAndCrop': 'LoadImageFromFile, and mmvitlin.TokenLabelCrop around its crop',
    'RandomCrop': 'mmvitlin.TokenLabelCrop around it',
    'EfficientNetRandomCrop': 'mmvitlin.TokenLabelCrop around it',
    'CenterCrop': 'mmvitlin.TokenLabelCrop around a random crop',
    'EfficientNetCenterCrop': 'mmvitlin.TokenLabelCrop around a random crop',
}
IMAGE_LABEL_SCORE = 20.0  # of the class of an image; softmax gives the others less than 1e-4


@register(DATASETS)
class TokenLabelDataset(BaseDataset):
    """Any data set of labelled images, with a label map for each image.

    `mmvitlin.datasets.token_labels.files` describes the files. The authors of token labeling
    publish them for ImageNet, and tools/generate_token_labels.py writes them for any data set. A
    sample enters the pipeline with two more entries, which `mmvitlin.TokenLabelCrop`,
    `mmvitlin.TokenLabelFlip` and `mmvitlin.TokenLabelAugment` keep consistent with the image:

        token_label_map   (2, K, H, W) float32 tensor, scores and classes, of the whole image
        token_label_box   (4,) float32 tensor, the part of the map that the image shows, as (left,
                          top, width, height) in fractions of the map

    The constructor checks that every file exists, and with `check_files` the content of every file.
    The content is also checked whenever a file is read.

    Args:
        dataset: the images, for example `dict(type='ImageNet', data_root=..., split='train')`,
            without a pipeline: a data set of mmpretrain, `mmvitlin.ImageNetTar` or
            `mmvitlin.Digits`.
        label_root: the folder of label maps, with the same class folders as the images.
        pipeline: transforms, which include the loading of images and pack the two entries.
        missing: 'error' raises for an image whose file is missing or damaged; 'image_label' uses
            the label of the image at every place, and logs a warning with the number and the names
            of such files.
        check_files: read every file at the start, with a progress bar, in the first process.
        backend_args: MMEngine's file backend for label maps.
        indices, test_mode, lazy_init: as in mmengine.

    Raises:
        ValueError: `missing` is unknown, `dataset` has a pipeline or wraps other data sets, or the
            pipeline crops or flips images without their label maps, or drops the label maps.
        TokenLabelError: files are missing or damaged, with their number and names; with
            'image_label', only if all of them are.
    """

    def __init__(
        self,
        dataset: dict | BaseDataset,
        label_root: str,
        pipeline: Sequence[dict] = (),
        missing: str = 'error',
        check_files: bool = False,
        backend_args: dict | None = None,
        indices: int | list[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        if missing not in ('error', 'image_label'):
            raise ValueError(f"missing must be 'error' or 'image_label', got {missing!r}")
        if isinstance(dataset, dict):
            dataset = DATASETS.build({**dataset, 'lazy_init': True})
        name = type(dataset).__name__
        if not isinstance(dataset, BaseDataset):
            raise ValueError(f'{name} wraps data sets: put TokenLabelDataset inside of it')
        if dataset.pipeline.transforms:
            raise ValueError(f'{name} has a pipeline: move it to TokenLabelDataset')
        self._images = dataset
        self.label_root = label_root
        self.missing = missing
        self.check_files = check_files
        self.backend_args = backend_args
        self.map_shape: tuple[int, int, int] | None = None  # (K, H, W) of the first file
        self._replaced: set[str] = set()  # files replaced by image labels in this process
        super().__init__(
            metainfo=self._images.metainfo,
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            lazy_init=True,
        )
        for transform in self.pipeline.transforms:
            name = type(transform).__name__
            if name in FOLLOWED_BY:
                raise ValueError(
                    f'{name} moves the image without its label map: use {FOLLOWED_BY[name]}'
                )
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """List the samples with the names of their label maps, and check that these exist."""
        images = self._images
        images.full_init()
        self._metainfo.update(images.metainfo)  # some data sets know their classes after full_init
        names = label_names(images)
        samples = [images.get_data_info(i) | dict(token_label=name) for i, name in enumerate(names)]
        if not samples:
            raise TokenLabelError(f'{type(images).__name__} has no images')
        present = self._present()
        absent = [] if present is None else [name for name in names if name not in present]
        if len(absent) == len(names):
            raise TokenLabelError(
                f'{self.label_root} has none of the {len(names)} label maps, such as {names[0]}: '
                'check label_root, or write them by tools/generate_token_labels.py'
            )
        self._report('missing', absent, len(names))
        lacking = set(absent)
        self.map_shape = self._shape_of_first([name for name in names if name not in lacking])
        if self.check_files and get_rank() == 0:
            self._check([name for name in names if name not in lacking])
        for sample in samples:
            sample['token_label_missing'] = sample['token_label'] in lacking
        self._images = None  # so that workers do not hold the samples twice
        return samples

    def prepare_data(self, idx: int) -> object:
        """Read a label map, and run the pipeline on it and its image."""
        sample = self.get_data_info(idx)
        sample['token_label_map'] = self._label_map(sample)
        sample['token_label_box'] = torch.tensor(WHOLE_IMAGE)
        prepared = self.pipeline(sample)
        packed = prepared.get('data_samples') if isinstance(prepared, dict) else None
        if packed is not None and not all(key in packed for key in ENTRIES):
            raise ValueError(
                'the pipeline drops the label maps: end it with PackInputs and '
                f'algorithm_keys={ENTRIES}'
            )
        return prepared

    def get_gt_labels(self) -> np.ndarray:
        """Return the classes of all samples, (samples,) int64, as mmpretrain's data sets do."""
        return np.array([self.get_cat_ids(i)[0] for i in range(len(self))], np.int64)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes of sample `idx`; samplers that balance classes read them."""
        return [int(self.get_data_info(idx)['gt_label'])]

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None if the data set does not have them in its metainfo."""
        classes = self._metainfo.get('classes')
        return None if classes is None else len(classes)

    def _present(self) -> set[str] | None:
        """Return the names of existing files; None if the backend cannot list them."""
        backend = get_file_backend(self.label_root, backend_args=self.backend_args)
        if not hasattr(backend, 'list_dir_or_file'):
            print_log(
                f'{type(backend).__name__} cannot list {self.label_root}: missing label maps are '
                'detected when they are read',
                'current',
                logging.WARNING,
            )
            return None
        if not backend.isdir(self.label_root):
            raise TokenLabelError(f'there is no folder {self.label_root}: check label_root')
        return set(
            backend.list_dir_or_file(self.label_root, list_dir=False, suffix='.pt', recursive=True)
        )

    def _read(self, name: str) -> Tensor:
        return read_label_map(
            self.label_root, name, self.num_classes, self.map_shape, self.backend_args
        )

    def _shape_of_first(self, names: list[str]) -> tuple[int, int, int]:
        """Return (K, H, W) of the first file, or of the first whole one if others are allowed."""
        first = None
        for name in names:
            try:
                _, topk, rows, columns = self._read(name).shape
                return topk, rows, columns
            except TokenLabelError as error:
                if self.missing == 'error' and not self.check_files:
                    raise self._refusal(error) from error
                first = first or error
        raise TokenLabelError(
            f'none of the {len(names)} label maps of {self.label_root} can be read: {first}'
        )

    def _check(self, names: list[str]) -> None:
        """Read every file, and report damaged ones."""
        damaged = {}
        print(f'Checking the label maps of {self.label_root}', flush=True)
        for name in track_iter_progress(names):
            try:
                self._read(name)
            except TokenLabelError as error:
                damaged[name] = str(error)
        self._report('damaged', list(damaged.values()), len(names))
        self._replaced.update(damaged)

    def _report(self, what: str, files: list[str], count: int) -> None:
        """Raise an error for missing or damaged files, or warn that image labels replace them."""
        if not files:
            return
        named = name_some(files)
        found = f'{self.label_root}: {len(files)} of {count} label maps are {what}: {named}'
        if self.missing == 'error':
            raise TokenLabelError(f'{found}. {REMEDY}')
        print_log(f'{found}. Image labels replace them', 'current', logging.WARNING)

    @staticmethod
    def _refusal(error: TokenLabelError) -> TokenLabelError:
        """Build the error for one file, with advice."""
        return TokenLabelError(f'{error}. check_files=True lists all such files. {REMEDY}')

    def _label_map(self, sample: dict) -> Tensor:
        """Return the label map of a sample; with 'image_label', its image label may replace it."""
        name = sample['token_label']
        if not sample['token_label_missing']:
            try:
                return self._read(name)
            except TokenLabelError as error:
                if self.missing == 'error':
                    raise self._refusal(error) from error
                self._warn_once(name, error)
        assert self.map_shape is not None  # since `load_data_list`
        return image_label_map(int(sample['gt_label']), self.map_shape, self.num_classes)

    def _warn_once(self, name: str, error: TokenLabelError) -> None:
        if name not in self._replaced:
            self._replaced.add(name)
            print_log(
                f'{error}. The label of its image replaces it (damaged files in this '
                f'process: {len(self._replaced)})',
                'current',
                logging.WARNING,
            )


def image_label_map(label: int, shape: tuple[int, int, int], num_classes: int | None) -> Tensor:
    """Create a label map (2, K, H, W) with the class `label` at every place.

    Its score is `IMAGE_LABEL_SCORE`, and that of K - 1 other classes is 0.

    Args:
        label: the class.
        shape: (K, H, W).
        num_classes: number of classes, if known.
    """
    K = shape[0]
    classes = (label + torch.arange(K)) % (num_classes or label + K)
    labels = torch.zeros(2, *shape)
    labels[0, 0] = IMAGE_LABEL_SCORE
    labels[1] = classes[:, None, None]
    return labels
