"""Transforms that move an image and its label map together.

A label map is of the whole image, and stays so: a crop is remembered as a box in it, and read when
the targets are made (`ops.token_labels`). As in the original, the map follows the random resized
crop and the flip. What then changes the pixels, RandAugment with its rotations, shears and shifts
and random erasing among it, changes the image alone.
"""

import torch
from mmcv.transforms import BaseTransform, RandomFlip

from mmvitlin.registry import TRANSFORMS

# Directions of mmcv's flips -> the axes of a map (2, K, H, W), 2 for rows and 3 for columns.
FLIPPED_AXES = {'horizontal': (3,), 'vertical': (2,), 'diagonal': (2, 3)}


@TRANSFORMS.register_module()
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


@TRANSFORMS.register_module()
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
