"""Scan orders over a grid of patches that never jump (arXiv 2502.16249, the order 'S')."""

import torch
from torch import Tensor


def snake(indices: Tensor) -> Tensor:
    """Flatten a grid (rows, columns) row by row, to the right on even rows and back on odd ones."""
    odd = torch.arange(indices.shape[0], device=indices.device) % 2 == 1
    return torch.where(odd[:, None], indices.flip(1), indices).flatten()


def snake_orders(
    rows: int, columns: int, device: torch.device, num_prefix_tokens: int = 1
) -> tuple[Tensor, Tensor]:
    """Compute the two scans of order 'S', along rows and along columns, prefix tokens first.

    Args:
        rows, columns: of the grid of patches.
        device: of the scans.
        num_prefix_tokens: tokens before the patches, such as the class token.

    Returns:
        Positions in the sequence, twice (num_prefix_tokens + rows * columns,), int64.
    """
    tokens = torch.arange(num_prefix_tokens + rows * columns, device=device)
    prefix, patches = tokens.tensor_split([num_prefix_tokens])
    grid = patches.view(rows, columns)
    return torch.cat([prefix, snake(grid)]), torch.cat([prefix, snake(grid.T)])


def order_of_subset(order: Tensor | None, keep_indices: Tensor) -> Tensor | None:
    """Restrict a scan of all tokens to a subset of them, in the same order.

    Args:
        order: scan of all L tokens, (L,); None for their own order.
        keep_indices: positions of the K kept tokens of each image, increasing, (B, K).

    Returns:
        The scan of the K tokens, (B, K), numbers from 0 to K - 1; None for their own order.
    """
    if order is None:
        return None
    return order.argsort()[keep_indices].argsort(-1)
