"""LoadAndCrop: the host's crops, and its pixels up to rounding, from files that decode faster."""

from io import BytesIO
from unittest.mock import patch

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmvitlin.errors import ConfigError
from mmvitlin.registry import TRANSFORMS

pytest.importorskip('mmpretrain')
simplejpeg = pytest.importorskip('simplejpeg')

CROP = dict(type='RandomResizedCrop', scale=64, backend='pillow', interpolation='bicubic')
BILINEAR_CV2 = dict(CROP, backend='cv2', interpolation='bilinear')


def build(*transforms):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return TRANSFORMS.build(dict(type='Compose', transforms=transforms))


def fast(crop):
    return build(dict(type='mmvitlin.LoadAndCrop', crop=crop))


def plain(crop):
    return build(dict(type='LoadImageFromFile'), crop)


def smooth(height, width, channels=3):
    """An image without frequencies that another order of filters would lose."""
    grid = np.random.default_rng(0).uniform(0, 255, (6, 6, channels)).astype(np.float32)
    image = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.clip(0, 255).astype(np.uint8)


def seeded(transform, path, seed):
    np.random.seed(seed)
    return transform(dict(img_path=str(path)))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.jpg'
    Image.fromarray(smooth(300, 400)).save(path, quality=95)
    return path


@pytest.mark.parametrize('crop', [CROP, BILINEAR_CV2])
def test_crops_and_pixels_are_those_of_the_host(photo, crop):
    ours, theirs = fast(crop), plain(crop)
    reductions = []
    decode = simplejpeg.decode_jpeg

    def noted(data, *args, **options):
        reductions.append('min_factor' in options)
        return decode(data, *args, **options)

    with patch.object(simplejpeg, 'decode_jpeg', noted):
        for seed in range(40):
            found, expected = (seeded(transform, photo, seed) for transform in (ours, theirs))
            assert found['img'].dtype == np.uint8 and found['img'].flags.writeable
            assert found['img_shape'] == expected['img_shape'] == (64, 64, 3)
            assert found['ori_shape'] == expected['ori_shape'] == (300, 400)
            difference = np.abs(found['img'].astype(int) - expected['img'])
            # A reduced image is cropped half an output pixel beside the host's crop at most.
            mean, most = (4, 40) if reductions[-1] else (0.6, 3)
            assert difference.mean() < mean and difference.max() <= most
    assert set(reductions) == {True, False}  # some crops were large enough for a smaller image


def test_crops_are_drawn_as_the_host_draws_them(photo):
    """From the header alone: the same random numbers give the same boxes."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        host = TRANSFORMS.build(CROP)
        ours = TRANSFORMS.build(dict(type='mmvitlin.LoadAndCrop', crop=CROP))
    drawn, draw = [], ours.crop.rand_crop_params
    ours.crop.rand_crop_params = lambda image: drawn.append(draw(image)) or drawn[-1]
    np.random.seed(3)
    for _ in range(50):
        ours(dict(img_path=str(photo)))
    np.random.seed(3)
    image = mmcv.imread(str(photo))
    assert drawn == [host.rand_crop_params(image) for _ in range(50)]


def as_png(path):
    Image.fromarray(smooth(80, 90)).save(path, 'PNG')


def as_cmyk(path):
    Image.fromarray(smooth(80, 90, 4), 'CMYK').save(path, 'JPEG')


def turned(path):
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.fromarray(smooth(80, 90)).save(path, 'JPEG', exif=exif)


def with_broken_exif(path):
    data = BytesIO()
    Image.fromarray(smooth(80, 90)).save(data, 'JPEG', exif=b'Exif\0\0MM\0*\xff\xff\xff\xff')
    path.write_bytes(data.getvalue())


@pytest.mark.parametrize('save', [as_png, as_cmyk, turned, with_broken_exif])
def test_other_files_are_read_by_the_host(tmp_path, save):
    save(tmp_path / 'image')
    found, expected = (seeded(make(CROP), tmp_path / 'image', 0) for make in (fast, plain))
    assert found.keys() == expected.keys()
    assert np.abs(found['img'].astype(int) - expected['img']).max() <= 2


def test_grey_images_get_three_channels(tmp_path):
    Image.fromarray(smooth(80, 90)[..., 0]).save(tmp_path / 'grey.jpg', quality=95)
    found, expected = (seeded(make(CROP), tmp_path / 'grey.jpg', 0) for make in (fast, plain))
    assert np.abs(found['img'].astype(int) - expected['img']).max() <= 2


def test_without_simplejpeg_the_host_does_everything(photo):
    with patch('mmvitlin.datasets.load_and_crop.find_spec', return_value=None):
        ours = fast(CROP)
    with patch.object(simplejpeg, 'decode_jpeg', None):
        found = seeded(ours, photo, 0)
    assert np.array_equal(found['img'], seeded(plain(CROP), photo, 0)['img'])


@pytest.mark.parametrize('damage', ['cut', 'empty', 'text'])
def test_a_damaged_file_is_named_in_one_line(photo, damage):
    data = photo.read_bytes()
    photo.write_bytes({'cut': data[: len(data) // 2], 'empty': b'', 'text': b'no image'}[damage])
    with pytest.raises(ConfigError, match=r'^[^\n]*photo\.jpg is damaged[^\n]*leave it out$'):
        fast(CROP)(dict(img_path=str(photo)))


def test_bytes_between_pixels_are_no_damage(photo):
    data = photo.read_bytes()
    photo.write_bytes(data[:-2] + bytes(7) + data[-2:])
    found, expected = (seeded(make(CROP), photo, 0) for make in (fast, plain))
    assert np.abs(found['img'].astype(int) - expected['img']).max() < 16


def test_a_crop_that_does_not_resize_is_refused():
    with pytest.raises(ConfigError, match='a crop that resizes, such as RandomResizedCrop, got'):
        fast(dict(type='CenterCrop', crop_size=8))
