"""Non-overlapping windows of a map: partition and its inverse."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the right and bottom of (B, H, W, C) until `multiple` divides both sides."""
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    # A size that is symbolic, in an export or a trace, must not decide here: it would be fixed.
    if type(bottom) is type(right) is int and not bottom and not right:
        return x
    return F.pad(x, (0, 0, 0, right, 0, bottom))


def window_partition(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, C), its sides multiples of `size`, into (B * windows, size * size, C)."""
    x = x.unflatten(2, (-1, size)).unflatten(1, (-1, size))  # (B, rows, size, columns, size, C)
    return x.transpose(2, 3).reshape(-1, size * size, x.shape[-1])


def window_unpartition(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Join (B * windows, size * size, C) into (B, height, width, C): undo `window_partition`."""
    x = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
