"""Key points of digits, the data of the pose quickstart."""

import numpy as np
import pytest
from mmengine.registry import DATASETS, DefaultScope

from mmvitlin.datasets.digits.digit_keypoints import KEYPOINTS, find_keypoints


def test_extreme_points_lie_in_the_middle_of_the_outermost_ink():
    image = np.zeros((10, 12), np.uint8)
    image[2, 4:7] = image[8, 5] = image[3:9, 6] = 255
    image[5, 9] = 127  # fainter than ink
    top, bottom, left, right, centre = find_keypoints(image).tolist()
    assert (top, bottom) == ([5, 2], [5.5, 8])
    assert (left, right) == ([4, 2], [6, 5])
    ink = np.argwhere(image > 127)[:, ::-1]
    assert centre == pytest.approx(ink.mean(0).tolist())


def test_samples_are_what_mmpose_reads():
    mmpose = pytest.importorskip('mmpose', reason='mmpose is not installed')
    with DefaultScope.overwrite_default_scope(mmpose.__name__):
        dataset = DATASETS.build(dict(type='mmvitlin.DigitKeypoints', split='val', side=32))
        sample = dataset[7]
    assert len(dataset) == 355 and sample['img'].shape == (32, 32, 3)
    assert sample['keypoints'].shape == (1, 5, 2) and sample['bbox'].tolist() == [[0, 0, 32, 32]]
    assert tuple(dataset.metainfo['keypoint_name2id']) == KEYPOINTS
    assert dataset.metainfo['skeleton_links'] == [(i, 4) for i in range(4)]
