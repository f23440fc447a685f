"""Loading and random cropping in one transform, which decodes images as small as crops allow."""

import struct
from importlib.util import find_spec
from io import BytesIO
from math import ceil

import cv2
import mmcv
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine import fileio
from PIL import ExifTags, Image

from mmvitlin.errors import ConfigError
from mmvitlin.registry import TRANSFORMS, register

LEAST_REDUCTION = 2  # libjpeg-turbo has vector instructions for 1/2, 1/4 and 1/8
COLORS = ('YCbCr', 'RGB', 'Gray')  # colours that libjpeg-turbo converts to BGR; CMYK is not one
# Filters of Pillow that torch has with the same antialiasing.
TORCH_FILTERS = ('bilinear', 'bicubic')


@register(TRANSFORMS)
class LoadAndCrop(BaseTransform):
    """LoadImageFromFile and RandomResizedCrop in one, faster for JPEG files.

    The crop is drawn from the size in the file's header, by the host's own transform: the same
    random numbers give the same crops. libjpeg-turbo (the package simplejpeg) decodes the file,
    at 1/2 or less of its size where the crop stays at least as large as the output. The edges of
    such a crop move by up to half a pixel of the smaller image. Pillow's antialiased filters are
    computed by torch's vectorised kernels, with differences of one level of 255.

    The host's reader and crop are used if simplejpeg is not installed, and for formats other than
    JPEG, colours in CMYK, and files whose EXIF data rotate the image.

    Args:
        crop: the host's transform, such as `dict(type='RandomResizedCrop', scale=224)`.
        backend_args: the file backend, as in LoadImageFromFile.

    Raises:
        ConfigError: the transform has no `rand_crop_params` and `scale`; in use, a file is damaged
            or no image.
    """

    def __init__(self, crop: dict, backend_args: dict | None = None):
        self.crop = TRANSFORMS.build(crop)
        if not hasattr(self.crop, 'rand_crop_params') or not hasattr(self.crop, 'scale'):
            raise ConfigError(
                f'LoadAndCrop takes a crop that resizes, such as RandomResizedCrop, got '
                f'{type(self.crop).__name__}'
            )
        self.load = LoadImageFromFile(backend_args=backend_args)
        self.is_installed = find_spec('simplejpeg') is not None

    def transform(self, results: dict) -> dict:
        """Read `img_path`; set `img`, `img_shape` and `ori_shape`."""
        data = b''
        if self.is_installed:
            data = fileio.get(results['img_path'], backend_args=self.load.backend_args)
        shape = _upright_shape(data)
        if shape is None:
            return self.crop(self._load_by_host(results))
        top, left, height, width = self.crop.rand_crop_params(np.broadcast_to(0, shape))
        image = self._decode(data, shape, (height, width), results['img_path'])
        down, right = (size / whole for size, whole in zip(image.shape, shape))
        rows = slice(round(top * down), round((top + height) * down))
        columns = slice(round(left * right), round((left + width) * right))
        results['img'] = image = self._resize(image[rows, columns])
        results['img_shape'] = image.shape
        results['ori_shape'] = shape
        return results

    def _load_by_host(self, results: dict) -> dict:
        try:
            return self.load(results)
        except (AssertionError, cv2.error) as error:
            raise ConfigError(
                f'{results["img_path"]} is damaged or no image: replace it, or leave it out'
            ) from error

    def _decode(
        self, data: bytes, shape: tuple[int, int], crop: tuple[int, int], path: str
    ) -> np.ndarray:
        """Decode a JPEG file to (H, W, 3) in BGR, at reduced size if the crop allows."""
        from simplejpeg import decode_jpeg

        reduction = min(size / out for size, out in zip(crop, self.crop.scale))
        smaller = {}
        if reduction >= LEAST_REDUCTION:
            height, width = (ceil(size / reduction) for size in shape)
            smaller = dict(min_height=height, min_width=width, min_factor=LEAST_REDUCTION)
        try:
            return decode_jpeg(data, 'BGR', **smaller)
        except ValueError as error:
            if 'extraneous bytes' in str(error):  # a warning about bytes that belong to no pixel
                return decode_jpeg(data, 'BGR', strict=False, **smaller)
            raise ConfigError(
                f'{path} is damaged ({error}): replace it, or leave it out'
            ) from error

    def _resize(self, image: np.ndarray) -> np.ndarray:
        """Resize a crop to the output of the host's transform."""
        crop = self.crop
        if crop.backend != 'pillow' or crop.interpolation not in TORCH_FILTERS:
            size = tuple(crop.scale[::-1])
            return mmcv.imresize(image, size, None, crop.interpolation, backend=crop.backend)
        # In this order the strides are those of channels_last, whose kernel makes no copies.
        batch = torch.from_numpy(image).unsqueeze(0).permute(0, 3, 1, 2)
        out = F.interpolate(batch, tuple(crop.scale), mode=crop.interpolation, antialias=True)
        return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())

    def __repr__(self) -> str:
        return f'{type(self).__name__}(crop={self.crop})'


def _upright_shape(data: bytes) -> tuple[int, int] | None:
    """Return (H, W) of a JPEG file whose image needs no rotation, None for other files."""
    if not data.startswith(b'\xff\xd8\xff'):
        return None
    from simplejpeg import decode_jpeg_header

    try:
        height, width, color, _ = decode_jpeg_header(data)
    except ValueError:
        return None
    return (height, width) if color in COLORS and _is_upright(data) else None


def _is_upright(data: bytes) -> bool:
    """Return False if EXIF data rotate the image or cannot be read."""
    if b'Exif\0\0' not in data:
        return True
    try:
        return Image.open(BytesIO(data)).getexif().get(ExifTags.Base.Orientation, 1) == 1
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
