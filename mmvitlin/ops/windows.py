"""Non-overlapping windows of a map: partition and its inverse.

With symbolic sizes, in an export, a trace or a compiled graph, tokens are gathered by index, and
the first window of an image is repeated after its last one. Rows, columns and numbers of windows
can be 1, and torch would fix the sizes for dimensions that can be 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.symbolic import is_fixed


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zero-pad the right and bottom of (B, H, W, C) until `multiple` divides both sides."""
    bottom, right = (_steps(side, multiple) * multiple - side for side in x.shape[1:3])
    # A symbolic size, in an export or a trace, must not be compared: it would be fixed.
    if is_fixed(bottom, right) and not bottom and not right:
        return x
    return F.pad(x, (0, 0, 0, right, 0, bottom))


def window_partition(x: Tensor, size: int) -> Tensor:
    """Cut (B, H, W, C), its sides multiples of `size`, into (B * windows, size * size, C)."""
    B, H, W, C = x.shape
    rows, columns = _steps(H, size), _steps(W, size)
    if is_fixed(H, W):
        x = x.reshape(B, rows, size, columns, size, C).transpose(2, 3)
        return x.reshape(B * rows * columns, size * size, C)
    count = rows * columns + 1
    tokens = torch.arange(rows * columns * size**2, device=x.device)
    tokens = torch.cat([tokens, torch.arange(size**2, device=x.device)])
    window, inside = tokens // size**2, tokens % size**2
    in_row = torch.full_like(window[:1], columns)  # a tensor, which ONNX needs for %
    row, column = window // in_row * size + inside // size, window % in_row * size + inside % size
    x = x.reshape(B, H * W, C).index_select(1, row * W + column)
    return x.reshape(B * count, size * size, C)


def window_unpartition(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """Join (B * windows, size * size, C) into (B, height, width, C): undo `window_partition`.

    `height` and `width` are those of the map before its padding, which is cut off.
    """
    rows, columns, C = _steps(height, size), _steps(width, size), windows.shape[-1]
    if is_fixed(height, width):
        B = windows.shape[0] // (rows * columns)
        x = windows.view(B, rows, columns, size, size, C).transpose(2, 3)
        return x.reshape(B, rows * size, columns * size, C)[:, :height, :width]
    cells = torch.arange(height * width, device=windows.device)
    in_row = torch.full_like(cells[:1], width)
    row, column = cells // in_row, cells % in_row
    window, inside = row // size * columns + column // size, row % size * size + column % size
    count = rows * columns + 1
    B = windows.shape[0] // count
    tokens = windows.reshape(B, count * size**2, C)
    return tokens.index_select(1, window * size**2 + inside).view(B, height, width, C)


def _steps(side: int, step: int) -> int:
    """Count the steps that cover a side."""
    return (side + step - 1) // step
