"""Cut a map into non-overlapping windows and put it together again: a pair of inverses."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the right and bottom of (B, H, W, C) until `multiple` divides both sides."""
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def window_partition(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, C), its sides multiples of `size`, into (B * windows, size * size, C)."""
    B, H, W, C = x.shape
    x = x.view(B, H // size, size, W // size, size, C).transpose(2, 3)
    return x.reshape(-1, size * size, C)


def window_unpartition(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Join (B * windows, size * size, C) into (B, height, width, C): undo `window_partition`."""
    x = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])
