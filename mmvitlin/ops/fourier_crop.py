"""EfficientTrain's low-frequency crop (arXiv 2211.09703): images with fewer pixels and details.

    low_frequency_crop = scale * Re(F^-1 crop(F images)),   scale = (h w) / (H W)

F is the 2-D discrete Fourier transform with the constant part at the centre, at row H // 2 and
column W // 2, and the crop keeps the h x w frequencies around it, those from -(h // 2) to
(h - 1) // 2 along a side. The scale keeps the mean: a constant image keeps its value.
"""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from mmvitlin.ops.precision import without_autocast


def low_frequency_crop(images: Tensor, size: int | Sequence[int]) -> Tensor:
    """Crop images to their low frequencies, with one pixel per frequency.

    Half precision and integers are computed in float32, inside autocast as well.

    Args:
        images: (B, C, H, W), or with any other dimensions before H and W.
        size: side of the result, or its (h, w), at most (H, W).

    Returns:
        (B, C, h, w), of the dtype of `images`, float32 for integers; `images` itself if the size
        is theirs.

    Raises:
        ValueError: a size that is not positive, or larger than the images.
    """
    h, w = _check_size(images, size)
    H, W = images.shape[-2:]
    if (h, w) == (H, W):
        return images
    with without_autocast(images):
        x = images.to(torch.promote_types(images.dtype, torch.float32))
        spectrum = torch.fft.fftshift(torch.fft.fft2(x), dim=(-2, -1))
        top, left = H // 2 - h // 2, W // 2 - w // 2
        spectrum = torch.fft.ifftshift(spectrum[..., top : top + h, left : left + w], dim=(-2, -1))
        out = torch.fft.ifft2(spectrum).real * (h * w / (H * W))
    return out.to(images.dtype) if images.is_floating_point() else out


def _check_size(images: Tensor, size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and width of the result, or raise ValueError."""
    if images.ndim < 3:
        raise ValueError(f'images must be of shape (B, C, H, W), got {tuple(images.shape)}')
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or not all(isinstance(s, Integral) for s in sides) or min(sides) < 1:
        raise ValueError(f'size must be a positive side, or (h, w), got {size!r}')
    H, W = images.shape[-2:]
    if sides[0] > H or sides[1] > W:
        raise ValueError(
            f'a crop of {sides[0]} x {sides[1]} is larger than the images of {H} x {W}: it keeps '
            'frequencies and adds none. Give a size that is at most theirs'
        )
    return sides
