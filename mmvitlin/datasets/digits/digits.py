"""Handwritten digits that scikit-learn ships: real images without a download."""

from collections.abc import Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from mmvitlin.registry import DATASETS, register

VAL_EVERY = 5  # every fifth scan of each digit is held out


def read_scans(split: str) -> list[dict]:
    """Read the scans of a split: the samples of `Digits`.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "mmvitlin.Digits reads scikit-learn's digits: pip install scikit-learn"
        ) from error
    scans, labels = load_digits(return_X_y=True)
    scans = np.rint(scans.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    seen = np.zeros(10, dtype=int)  # scans of each digit so far
    samples = []
    for scan, label in zip(scans, labels.tolist()):
        seen[label] += 1
        held_out = seen[label] % VAL_EVERY == 0
        if held_out == (split == 'val'):
            image = np.repeat(scan[..., None], 3, axis=-1)
            name = f'{label}/{seen[label]:03}'
            sample = dict(img=image, img_shape=(8, 8), ori_shape=(8, 8), gt_label=label)
            samples.append(sample | dict(sample_name=name))
    return samples


@register(DATASETS)
class Digits(BaseDataset):
    """1,797 scans of handwritten digits, 8 x 8 pixels of 17 grey levels (UCI Optical Recognition).

    The split is part of the data set: of the scans of each digit, in scikit-learn's order, every
    fifth is held out. This gives 1,442 images for training and 355 for validation.

    A sample has `img`, a (8, 8, 3) uint8 array with values from 0 to 255, `gt_label`, and
    `sample_name`, which is the digit and the number of its scan, such as '3/017'. There is no file
    to load, so a pipeline starts with the first transform of the image.

    Args:
        split: 'train' or 'val'.
        pipeline: transforms, as for any other data set.
        indices: keep this number of samples from the start, or the listed ones.
        test_mode, lazy_init: as in mmengine.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: `split` is unknown.
    """

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(
        self,
        split: str,
        pipeline: Sequence[dict] = (),
        indices: int | list[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        if split not in ('train', 'val'):
            raise ValueError(f"Digits has the splits 'train' and 'val', got {split!r}")
        self.split = split
        super().__init__(
            pipeline=list(pipeline), indices=indices, test_mode=test_mode, lazy_init=lazy_init
        )

    def load_data_list(self) -> list[dict]:
        """Read the scans of the split."""
        return read_scans(self.split)

    @property
    def CLASSES(self) -> tuple[str, ...]:  # noqa: N802  as in mmpretrain's data sets
        """Names of the classes; mmpretrain's analyze_results.py reads them."""
        return self.metainfo['classes']

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes of sample `idx`; samplers that balance classes read them."""
        return [self.get_data_info(idx)['gt_label']]
