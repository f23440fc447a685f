"""Key points of handwritten digits, for pose estimators: real images without a download."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from mmvitlin.checks import one_of, positive_int
from mmvitlin.datasets.digits.digits import read_scans
from mmvitlin.registry import DATASETS, register

INK = 128  # of 255, and more
KEYPOINTS = ('top', 'bottom', 'left', 'right', 'centre')
COLORS = ((255, 64, 64), (64, 64, 255), (64, 192, 64), (255, 160, 0), (160, 64, 255))


def find_keypoints(image: np.ndarray) -> np.ndarray:
    """Find the extreme points and the centre of the ink in a picture.

    An extreme point lies in the outermost row or column with ink, in the middle of the ink there.

    Args:
        image: (H, W), uint8, bright ink on a dark ground.

    Returns:
        x and y of `KEYPOINTS`, in pixels, (5, 2), float32.
    """
    rows, columns = np.nonzero(image >= INK)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    points = [
        (columns[rows == top].mean(), top),
        (columns[rows == bottom].mean(), bottom),
        (left, rows[columns == left].mean()),
        (right, rows[columns == right].mean()),
        (columns.mean(), rows.mean()),
    ]
    return np.array(points, dtype=np.float32)


@register(DATASETS)
class DigitKeypoints(BaseDataset):
    """The digits of `Digits`, enlarged, with the extreme points and the centre of their strokes.

    A sample is what mmpose's top-down pipelines read: `img` (side, side, 3) uint8, one `bbox`
    around the whole image, `keypoints` (1, 5, 2) in the order of `KEYPOINTS`, all visible. There is
    no file to load: `LoadImage` takes the image as it is.

    Args:
        split: 'train' or 'val'.
        side: of an image in pixels, resized bicubically from 8.
        pipeline: transforms of mmpose.
        indices: keep this number of samples from the start, or the listed ones.
        test_mode, lazy_init: as in mmengine.

    Raises:
        ImportError: mmpose or scikit-learn is not installed.
        ValueError: `split` is unknown, or `side` is not positive.
    """

    METAINFO: dict[str, Any] = dict(
        dataset_name='digits',
        keypoint_info={
            index: dict(name=name, id=index, color=list(color), type='', swap='')
            for index, (name, color) in enumerate(zip(KEYPOINTS, COLORS))
        },
        skeleton_info={
            index: dict(link=(name, 'centre'), id=index, color=list(color))
            for index, (name, color) in enumerate(zip(KEYPOINTS[:-1], COLORS))
        },
        joint_weights=[1.0] * len(KEYPOINTS),
        sigmas=[0.05] * len(KEYPOINTS),
    )

    def __init__(
        self,
        split: str,
        side: int = 64,
        pipeline: Sequence[dict] = (),
        indices: int | list[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
    ):
        from mmpose.datasets.datasets.utils import parse_pose_metainfo

        self.split = one_of('split', split, ('train', 'val'))
        self.side = positive_int('side', side)
        super().__init__(
            metainfo=parse_pose_metainfo(self.METAINFO),
            pipeline=list(pipeline),
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
        )

    def load_data_list(self) -> list[dict]:
        """Read and enlarge the scans of the split, and find their key points."""
        samples = []
        for number, scan in enumerate(read_scans(self.split)):
            image = cv2.resize(scan['img'], (self.side, self.side), interpolation=cv2.INTER_CUBIC)
            keypoints = find_keypoints(image[..., 0])[None]
            samples.append(
                dict(
                    img=image,
                    img_path=f'{scan["sample_name"]}.png',
                    img_id=number,
                    id=number,
                    category_id=1,
                    bbox=np.array([[0, 0, self.side, self.side]], dtype=np.float32),
                    bbox_score=np.ones(1, dtype=np.float32),
                    keypoints=keypoints,
                    keypoints_visible=np.ones(keypoints.shape[:2], dtype=np.float32),
                    flip_indices=self.metainfo['flip_indices'],
                )
            )
        return samples
