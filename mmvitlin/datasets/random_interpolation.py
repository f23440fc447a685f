"""Interpolation that is drawn for every image, as timm's 'random'."""

from collections.abc import Iterator, Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from mmvitlin.errors import ConfigError
from mmvitlin.registry import TRANSFORMS, register


@register(TRANSFORMS)
class RandomInterpolation(BaseTransform):
    """A transform whose interpolation is drawn for every image.

    For a composed transform such as RandAugment, one is drawn for each of its transforms.

    Args:
        transform: the transform, for example `dict(type='RandomResizedCrop', scale=224)`.
        choices: the interpolations to draw from, evenly.

    Raises:
        ConfigError: no part of the transform has an interpolation.
    """

    def __init__(self, transform: dict, choices: Sequence[str] = ('bilinear', 'bicubic')):
        # The hosts' wrappers use this name, by which a curriculum finds RandAugment.
        self.transforms = [TRANSFORMS.build(transform)]
        self.choices = tuple(choices)
        self._drawing = list(_interpolating(self.transforms))
        if not self._drawing:
            raise ConfigError(
                f'{transform["type"]} has no interpolation to draw: leave RandomInterpolation out'
            )

    def transform(self, results: dict) -> dict:
        """Draw, and transform."""
        for part in self._drawing:
            part.interpolation = str(np.random.choice(self.choices))
        return self.transforms[0](results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.transforms[0]}, choices={self.choices})'


def _interpolating(part: object) -> Iterator[BaseTransform]:
    """Iterate over the transforms with an interpolation, in a transform or in lists of them."""
    if isinstance(part, (list, tuple)):
        for item in part:
            yield from _interpolating(item)
    elif isinstance(part, BaseTransform):
        if hasattr(part, 'interpolation'):
            yield part
        for item in vars(part).values():
            yield from _interpolating(item)
