"""Transforms that apply the same geometry to an image and its label map.

A label map covers the whole image. A crop is stored as a box in the map, which is read when the
targets are computed (`ops.token_labels`). Flips, and the rotations, shears and translations of
RandAugment, move the map itself. All other transforms, such as random erasing, change the image
only. `TokenLabelDataset` refuses pipelines with crops and flips that ignore the map.

The original code applies flip, RandAugment and crop in this order and in the same way, with one
difference: it stores a crop as (top, left, height, width) and reads it as (left, top, width,
height), so the labels belong to another part of the image. Here they belong to the part that the
image shows.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, RandomFlip
from torch import Tensor

from mmvitlin.registry import TRANSFORMS, register

# Direction of a flip in mmcv -> axes of a map (2, K, H, W): 2 for rows, 3 for columns.
FLIPPED_AXES = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


@register(TRANSFORMS)
class TokenLabelCrop(BaseTransform):
    """Random crop that records its box.

    `token_label_box`, the part of the label map that the image shows as (left, top, width, height)
    in fractions of the map, is updated. An image without a label map is cropped as well.

    Args:
        crop: a transform of the host that draws its crop by `rand_crop_params`, such as
            `dict(type='RandomResizedCrop', scale=224)`. mmpretrain's EfficientNetRandomCrop, and
            its RandomCrop without padding, do so too.

    Raises:
        ValueError: the transform has no `rand_crop_params`, or pads.
    """

    def __init__(self, crop: dict):
        self.crop = TRANSFORMS.build(crop)
        if not hasattr(self.crop, 'rand_crop_params'):
            raise ValueError(
                f'{type(self.crop).__name__} has no rand_crop_params, which draws the crop: use '
                'RandomResizedCrop, EfficientNetRandomCrop or RandomCrop'
            )
        if getattr(self.crop, 'padding', None) or getattr(self.crop, 'pad_if_needed', False):
            raise ValueError(
                f'{type(self.crop).__name__} with padding shows more than the image, and a label '
                'map covers the image only: remove the padding'
            )

    def transform(self, results: dict) -> dict:
        """Crop `img` and update `token_label_box`."""
        image_height, image_width = results['img'].shape[:2]
        top, left, height, width = drawn = self.crop.rand_crop_params(results['img'])
        # mmcv's cache_random_params miscounts the draws of classes that have subclasses.
        self.crop.rand_crop_params = lambda image: drawn
        try:
            results = self.crop(results)
        finally:
            del self.crop.rand_crop_params  # gives access to the method of the class again
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
    """mmcv's RandomFlip, which also flips the label map and its box.

    Args:
        prob, direction: as in RandomFlip.
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


# Transforms of mmpretrain that move pixels -> the 2 x 3 matrix that maps the position of a pixel in
# an image (height, width) to its new position, for the magnitude drawn.
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
    """The host's RandAugment, which moves the label map together with the pixels.

    As in the original code, Rotate, Shear and Translate move the map with nearest-neighbour
    interpolation, and all scores of places from outside of the image are 0. Other transforms change
    the image only.

    Args:
        augment: the transform, for example `dict(type='RandAugment', ...)`. AutoAugment, Rotate,
            Shear and Translate can be used too.
    """

    def __init__(self, augment: dict):
        # The hosts' wrappers use this name, by which a curriculum finds RandAugment.
        self.transforms = [_follow(TRANSFORMS.build(augment))]

    def transform(self, results: dict) -> dict:
        """Augment `img` and move `token_label_map` with it."""
        return self.transforms[0](results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transforms[0]})'


def _follow(transform: BaseTransform) -> BaseTransform:
    """Wrap a transform of `MOVES`; in a composed transform, replace them in place."""
    if type(transform).__name__ in MOVES:
        return _Followed(transform)
    parts: list[BaseTransform] = getattr(transform, 'transforms', [])
    for index, part in enumerate(parts):
        parts[index] = _follow(part)
    return transform


class _Followed(BaseTransform):
    """Transform of `MOVES` that also moves the label map."""

    def __init__(self, move: BaseTransform):
        self.move = move

    @property
    def magnitude_level(self) -> float:
        """Magnitude level of the transform, which `EfficientTrainHook` changes."""
        return self.move.magnitude_level

    @magnitude_level.setter
    def magnitude_level(self, level: float) -> None:
        self.move.magnitude_level = level

    def transform(self, results: dict) -> dict:
        if 'token_label_map' not in results:
            return self.move(results)
        height, width = results['img'].shape[:2]
        # `random_negative` draws the magnitude, only if the transform is applied.
        drawn, draw = [], self.move.random_negative

        def remember(magnitude: float) -> float:
            drawn.append(draw(magnitude))
            return drawn[-1]

        self.move.random_negative = remember
        try:
            results = self.move(results)
        finally:
            del self.move.random_negative  # gives access to the method of the class again
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
    """Apply an affine transform of an image to its label map, with nearest-neighbour interpolation.

    Args:
        label_map, box: the map (2, K, H, W), and the part of it that the image shows, as in
            `mmvitlin.TokenLabelDataset`.
        matrix: (2, 3), maps the position (x, y) of a pixel to its new position.
        height, width: of the image, in pixels.

    Returns:
        The moved map (2, K, H, W). Scores of places from outside of the image are 0.
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
