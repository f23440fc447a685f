"""Images get the sizes that the original YOLOS gives them."""

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import TRANSFORMS, DefaultScope

from mmvitlin.datasets import ResizeToPatches
from mmvitlin.datasets.resize_to_patches import whole_patches


@pytest.mark.parametrize(
    ('size', 'limits', 'expected'),
    [
        ((480, 640), (1333, 800), (800, 1056)),
        ((640, 480), (1333, 800), (1056, 800)),
        ((360, 640), (1333, 800), (736, 1328)),
        ((500, 500), (1333, 800), (800, 800)),
        ((480, 640), (853, 512), (512, 672)),
    ],
)
def test_sizes_are_the_originals(size, limits, expected):
    assert whole_patches(size, *limits, patch_size=16) == expected


def test_sides_are_multiples_of_the_patch():
    assert whole_patches((480, 640), 1333, 800, patch_size=100) == (800, 1000)


def test_image_and_boxes_are_scaled_along_each_axis_by_itself():
    results = dict(
        img=np.zeros((480, 640, 3), np.uint8),
        img_shape=(480, 640),
        gt_bboxes=HorizontalBoxes([[64.0, 48.0, 640.0, 480.0]]),
    )
    out = ResizeToPatches((1333, 800))(results)
    assert out['img'].shape[:2] == out['img_shape'] == (800, 1056)
    assert out['scale_factor'] == pytest.approx((1056 / 640, 800 / 480))
    np.testing.assert_allclose(out['gt_bboxes'].tensor.numpy(), [[105.6, 80, 1056, 800]], rtol=1e-6)


def test_random_choice_of_sizes_resizes_by_it():
    with DefaultScope.overwrite_default_scope('mmdet'):
        transform = TRANSFORMS.build(
            dict(
                type='RandomChoiceResize',
                resize_type='mmvitlin.ResizeToPatches',
                scales=[(640, 320)],
            )
        )
        out = transform(dict(img=np.zeros((100, 150, 3), np.uint8)))
    assert out['img'].shape[:2] == (320, 480)
