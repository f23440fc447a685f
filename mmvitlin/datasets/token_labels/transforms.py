"""Transforms that move an image and its label map together.

A label map is of the whole image. A crop is remembered as a box in it, and read when the targets
are made (`ops.token_labels`); flips, and RandAugment's rotations, shears and shifts, move the map.
Whatever else changes pixels, random erasing among it, changes the image alone; flips and crops that
leave the map behind are refused by `TokenLabelDataset`.

The original does the same, in the order flip, RandAugment, crop, but for one thing: it stores a
crop as (top, left, height, width) and reads it as (left, top, width, height), so that labels are
those of another part of the image. Here they are those of what the image shows.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, RandomFlip
from torch import Tensor

from mmvitlin.registry import TRANSFORMS, register

# Directions of mmcv's flips -> the axes of a map (2, K, H, W), 2 for rows and 3 for columns.
FLIPPED_AXES = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


@register(TRANSFORMS)
class TokenLabelCrop(BaseTransform):
    """A random crop of the host's, which leaves word of where it cut.

    `token_label_box`, the (left, top, width, height) that the image shows in fractions of its label
    map, becomes that of the crop. Without label map the image is cropped all the same.

    Args:
        crop: the transform, for example `dict(type='RandomResizedCrop', scale=224)`; one that draws
            the crop by `rand_crop_params`, as mmpretrain's RandomResizedCrop,
            EfficientNetRandomCrop and RandomCrop without padding do.

    Raises:
        ValueError: the transform draws its crop in another way, or pads.
    """

    def __init__(self, crop: dict):
        self.crop = TRANSFORMS.build(crop)
        if not hasattr(self.crop, 'rand_crop_params'):
            raise ValueError(
                f'{type(self.crop).__name__} has no rand_crop_params to learn its crop from: take '
                'RandomResizedCrop, EfficientNetRandomCrop or RandomCrop'
            )
        if getattr(self.crop, 'padding', None) or getattr(self.crop, 'pad_if_needed', False):
            raise ValueError(
                f'{type(self.crop).__name__} with padding shows more than the image, and a label '
                'map does not: leave the padding out'
            )

    def transform(self, results: dict) -> dict:
        """Crop `img`, and compose `token_label_box` with the crop."""
        image_height, image_width = results['img'].shape[:2]
        top, left, height, width = drawn = self.crop.rand_crop_params(results['img'])
        # Not by mmcv's cache_random_params: it miscounts the draws of classes that have subclasses.
        self.crop.rand_crop_params = lambda image: drawn
        try:
            results = self.crop(results)
        finally:
            del self.crop.rand_crop_params  # the method below the attribute shows again
        if 'token_label_box' in results:
            start, extent = results['token_label_box'].split(2)
            image = torch.tensor([image_width, image_height])
            start = start + extent * torch.tensor([left, top]) / image
            extent = extent * torch.tensor([width, height]) / image
            results['token_label_box'] = torch.cat((start, extent))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.crop})'


@register(TRANSFORMS)
class TokenLabelFlip(RandomFlip):
    """mmcv's RandomFlip, which flips the label map too and mirrors the box in it.

    Args:
        prob, direction: as there.
    """

    def __init__(self, prob: float | list[float], direction: str | list[str] = 'horizontal'):
        super().__init__(prob=prob, direction=direction)

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        if 'token_label_map' not in results:
            return
        axes = FLIPPED_AXES[results['flip_direction']]
        results['token_label_map'] = results['token_label_map'].flip(axes)
        box = results['token_label_box'].clone()
        for axis in axes:
            start = 3 - axis  # left for columns, top for rows
            box[start] = 1 - box[start] - box[start + 2]
        results['token_label_box'] = box


# Transforms of mmpretrain that move pixels -> the 2 x 3 matrix that takes the place of a pixel of
# an image (height, width) to its new place, for the magnitude drawn.
MOVES: dict[str, Callable[[BaseTransform, float, int, int], np.ndarray]] = {
    'Rotate': lambda t, angle, height, width: cv2.getRotationMatrix2D(
        t.center or ((width - 1) / 2, (height - 1) / 2), -angle, t.scale
    ),
    'Shear': lambda t, magnitude, height, width: np.array(
        [[1, magnitude, 0], [0, 1, 0]]
        if t.direction == 'horizontal'
        else [[1, 0, 0], [magnitude, 1, 0]],
        dtype=float,
    ),
    'Translate': lambda t, share, height, width: np.array(
        [[1, 0, share * width], [0, 1, 0]]
        if t.direction == 'horizontal'
        else [[1, 0, 0], [0, 1, share * height]],
        dtype=float,
    ),
}


@register(TRANSFORMS)
class TokenLabelAugment(BaseTransform):
    """RandAugment of the host's, which moves the label map as it moves the pixels.

    As in the original, Rotate, Shear and Translate move the map by its nearest places, and what
    comes from outside of the image has no class: all scores are 0. Other transforms change the
    image alone.

    Args:
        augment: the transform, for example `dict(type='RandAugment', ...)`; AutoAugment and the
            three by themselves will do as well.
    """

    def __init__(self, augment: dict):
        # By the name that the hosts' wrappers have for it, so that a curriculum finds RandAugment.
        self.transforms = [_follow(TRANSFORMS.build(augment))]

    def transform(self, results: dict) -> dict:
        """Augment `img`, and move `token_label_map` with it."""
        return self.transforms[0](results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transforms[0]})'


def _follow(transform: BaseTransform) -> BaseTransform:
    """Let the label map follow a transform, or, in place, those that it is made of."""
    if type(transform).__name__ in MOVES:
        return _Followed(transform)
    parts = getattr(transform, 'transforms', ())
    for index, part in enumerate(parts):
        parts[index] = _follow(part)
    return transform


class _Followed(BaseTransform):
    """One of `MOVES`, and the label map after it."""

    def __init__(self, move: BaseTransform):
        self.move = move

    @property
    def magnitude_level(self) -> float:
        """That of the move, which `EfficientTrainHook` changes."""
        return self.move.magnitude_level

    @magnitude_level.setter
    def magnitude_level(self, level: float) -> None:
        self.move.magnitude_level = level

    def transform(self, results: dict) -> dict:
        if 'token_label_map' not in results:
            return self.move(results)
        height, width = results['img'].shape[:2]
        drawn, draw = [], self.move.random_negative  # the last of its draws, if it acts at all

        def remember(magnitude: float) -> float:
            drawn.append(draw(magnitude))
            return drawn[-1]

        self.move.random_negative = remember
        try:
            results = self.move(results)
        finally:
            del self.move.random_negative  # the method below the attribute shows again
        for magnitude in drawn:
            matrix = MOVES[type(self.move).__name__](self.move, magnitude, height, width)
            results['token_label_map'] = move_label_map(
                results['token_label_map'], results['token_label_box'], matrix, height, width
            )
        return results

    def __repr__(self) -> str:
        return repr(self.move)


def move_label_map(
    label_map: Tensor, box: Tensor, matrix: np.ndarray, height: int, width: int
) -> Tensor:
    """Move a label map (2, K, H, W) as the image is moved that shows the part `box` of it.

    Args:
        label_map, box: as `mmvitlin.TokenLabelDataset` describes them.
        matrix: (2, 3), takes the place (x, y) of a pixel to its new one.
        height, width: of the image, in pixels.

    Returns:
        The map, in each place that of the nearest place before; with scores of 0 where that is
        outside of the image.
    """
    rows, columns = label_map.shape[-2:]
    left, top, wide, high = box.double().tolist()
    x = ((torch.arange(columns, dtype=torch.float64) + 0.5) / columns - left) / wide * width - 0.5
    y = ((torch.arange(rows, dtype=torch.float64) + 0.5) / rows - top) / high * height - 0.5
    y, x = torch.meshgrid(y, x, indexing='ij')
    back = torch.from_numpy(cv2.invertAffineTransform(matrix))
    x, y = (back @ torch.stack((x, y, torch.ones_like(x))).flatten(1)).view(2, rows, columns)
    inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    column = (((x + 0.5) / width * wide + left) * columns).floor().long().clamp(0, columns - 1)
    row = (((y + 0.5) / height * high + top) * rows).floor().long().clamp(0, rows - 1)
    moved = label_map[:, :, row, column]
    moved[0] *= inside
    return moved
