"""RandomInterpolation draws for every image, and for each transform inside of another."""

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmvitlin.datasets import RandomInterpolation
from mmvitlin.errors import ConfigError
from mmvitlin.registry import TRANSFORMS

pytest.importorskip('mmpretrain')
RESIZE = dict(type='RandomResizedCrop', scale=8, crop_ratio_range=(1, 1), aspect_ratio_range=(1, 1))
ROTATE = dict(type='Rotate', magnitude_range=(0, 30), prob=1.0)
AUGMENT = dict(type='RandAugment', policies=[ROTATE] * 2, num_policies=2, magnitude_level=9)


def build(transform):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return TRANSFORMS.build(dict(type='mmvitlin.RandomInterpolation', transform=transform))


@pytest.fixture
def image():
    np.random.seed(0)
    return np.random.randint(0, 256, (32, 32, 3), np.uint8)


@pytest.mark.parametrize('crop', [RESIZE, dict(type='mmvitlin.TokenLabelCrop', crop=RESIZE)])
def test_images_are_those_of_either_interpolation(image, crop):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        each = [
            TRANSFORMS.build(dict(RESIZE, interpolation=name))(dict(img=image))['img'].tobytes()
            for name in ('bilinear', 'bicubic')
        ]
        transform = build(crop)
        drawn = [transform(dict(img=image))['img'].tobytes() for _ in range(60)]
    assert set(drawn) == set(each)
    assert 15 < drawn.count(each[0]) < 45


@pytest.mark.parametrize(
    'augment', [AUGMENT, dict(type='mmvitlin.TokenLabelAugment', augment=AUGMENT)]
)
def test_transforms_of_a_randaugment_draw_each_its_own(image, augment):
    transform = build(augment)
    pairs = set()
    for _ in range(40):
        transform(dict(img=image.copy()))
        pairs.add(tuple(part.interpolation for part in transform._drawing))
    assert len(pairs) == 4


def test_what_has_no_interpolation_is_refused():
    with pytest.raises(ConfigError, match='RandomFlip has no interpolation to draw'):
        RandomInterpolation(dict(type='RandomFlip', prob=0.5))
