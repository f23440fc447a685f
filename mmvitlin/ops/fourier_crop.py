"""EfficientTrain's low-frequency crop (arXiv 2211.09703): images in fewer pixels, less detailed.

    low_frequency_crop = scale * Re(F^-1 crop(F images)),   scale = (h w) / (H W)

F is the 2-D discrete Fourier transform with the constant part at the centre, at row H // 2 and
column W // 2, and the crop keeps the h x w frequencies around it, those from -(h // 2) to
(h - 1) // 2 along a side. The scale keeps the mean: a constant image stays what it was.

All of it is linear, and separable but for one term: an even side keeps the frequency -h / 2 without
its opposite, which leaves an imaginary part A_y + i Q_y in the map of that side. The real part of a
product of two such maps is A_y X A_x^T - Q_y X Q_x^T. Since a single frequency is unpaired, each Q
is an outer product u s^T: `low_frequency_crop` is two matrix products and a term of rank one,
without complex numbers. `low_frequency_crop_naive`, its plain twin, transforms, crops and goes
back.
"""

from collections.abc import Sequence
from math import pi
from numbers import Integral

import torch
from torch import Tensor

from mmvitlin.ops.precision import without_autocast


def low_frequency_crop(images: Tensor, size: int | Sequence[int]) -> Tensor:
    """Keep the low frequencies of images, in as few pixels as hold them.

    Half precision and integers are calculated in float32, inside autocast as well.

    Args:
        images: (B, C, H, W), or with any other dimensions before H and W.
        size: side of the result, or its (h, w), at most (H, W).

    Returns:
        (B, C, h, w), of the dtype of `images`, float32 for integers; `images` itself where nothing
        is to be cropped.

    Raises:
        ValueError: a size that is not positive, or larger than the images.
    """
    height, width = _check_size(images, size)
    if (height, width) == tuple(images.shape[-2:]):
        return images
    dtype = torch.promote_types(images.dtype, torch.float32)
    with without_autocast(images):
        x = images.to(dtype)
        rows, row_signs, row_wave = (m.to(x) for m in _crop_matrices(x.shape[-2], height))
        columns, signs, wave = (m.to(x) for m in _crop_matrices(x.shape[-1], width))
        out = rows @ (x @ columns.T)
        unpaired = (x @ wave) @ row_wave  # (B, C)
        out = out - unpaired[..., None, None] * torch.outer(row_signs, signs)
    return out.to(images.dtype) if images.is_floating_point() else out


def low_frequency_crop_naive(images: Tensor, size: int | Sequence[int]) -> Tensor:
    """Transform, crop, transform back: the plain twin, same arguments."""
    height, width = _check_size(images, size)
    H, W = images.shape[-2:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    with without_autocast(images):
        spectrum = torch.fft.fftshift(torch.fft.fft2(images.to(dtype)), dim=(-2, -1))
        top, left = H // 2 - height // 2, W // 2 - width // 2
        spectrum = spectrum[..., top : top + height, left : left + width]
        out = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1))).real
        out = out * (height * width / (H * W))
    return out.to(images.dtype) if images.is_floating_point() else out


def _crop_matrices(full: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The scaled map of one side: real part A (size, full), and u (size,), s (full,) of Q = u s^T.

    s is zero where every frequency has its opposite, and where nothing is cropped: then the
    unpaired frequency is the highest of the images, whose sine is zero at every pixel.
    """
    into, out = torch.arange(full, device='cpu').double(), torch.arange(size, device='cpu').double()
    frequencies = out - size // 2
    away, back = 2 * pi / full * into.outer(frequencies), 2 * pi / size * out.outer(frequencies)
    real = (back.cos() @ away.cos().T + back.sin() @ away.sin().T) / full
    wave = (pi * size / full * into).sin() / full  # of frequency size / 2
    return real, 1 - 2 * (out % 2), wave if size % 2 == 0 and size < full else 0 * wave


def _check_size(images: Tensor, size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of the result."""
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
