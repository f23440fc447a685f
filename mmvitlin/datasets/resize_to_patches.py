"""Resizing to whole patches, as YOLOS trains and evaluates."""

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS as ROOT_TRANSFORMS

from mmvitlin.registry import TRANSFORMS, register


@register(TRANSFORMS)
class ResizeToPatches(BaseTransform):
    """mmdetection's Resize, to a size of the image's ratio whose sides are multiples of a patch.

    Boxes are scaled per axis. `RandomChoiceResize` takes it as its `resize_type`.

    Args:
        scale: (largest long side, short side), in pixels.
        patch_size: both sides are rounded down to multiples of it.
    """

    def __init__(self, scale: tuple[int, int], patch_size: int = 16):
        self.scale = scale
        self.patch_size = patch_size

    def transform(self, results: dict) -> dict:
        """Resize the image, its boxes and its masks."""
        height, width = whole_patches(results['img'].shape[:2], *self.scale, self.patch_size)
        resize = dict(type='mmdet.Resize', scale=(width, height), keep_ratio=False)
        return ROOT_TRANSFORMS.build(resize)(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale}, patch_size={self.patch_size})'


def whole_patches(
    size: tuple[int, int], longest: int, shortest: int, patch_size: int
) -> tuple[int, int]:
    """Compute the size (H, W) of an image of `size` (H, W) after resizing to whole patches.

    Roundings are the original's: the short side, if the long one limits it, to the nearest pixel,
    the long side down, then both down to multiples of `patch_size`.
    """
    short, long = min(size), max(size)
    if long / short * shortest > longest:
        shortest = round(longest * short / long)
    height, width = (shortest if side == short else int(shortest * side / short) for side in size)
    return height // patch_size * patch_size, width // patch_size * patch_size
