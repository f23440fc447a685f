"""Ways along the patches of an image that never jump (arXiv 2502.16249, the order 'S')."""

from functools import lru_cache

import torch
from torch import Tensor


def snake(height: int, width: int) -> list[int]:
    """Patches row by row, to the right on even rows and back on odd ones."""
    rows = [range(row * width, (row + 1) * width) for row in range(height)]
    return [patch for i, row in enumerate(rows) for patch in (reversed(row) if i % 2 else row)]


def transposed_snake(height: int, width: int) -> list[int]:
    """Patches column by column, down on even columns and up on odd ones."""
    transposed = [divmod(patch, height) for patch in snake(width, height)]
    return [row * width + column for column, row in transposed]


def snake_orders(
    height: int, width: int, device: torch.device, num_prefix_tokens: int = 1
) -> tuple[Tensor, Tensor]:
    """The two scans of order 'S', the class token first: each (1 + height * width,).

    `num_prefix_tokens` stand before the patches: 0 where there is no class token.
    """
    orders = _snake_orders(height, width, num_prefix_tokens)
    return tuple(torch.tensor(order, device=device) for order in orders)


@lru_cache(maxsize=64)
def _snake_orders(height: int, width: int, prefix: int) -> tuple[list[int], list[int]]:
    # Kept as numbers: a tensor made in inference or in tracing would be of no use after it.
    scans = snake(height, width), transposed_snake(height, width)
    return tuple([*range(prefix), *(prefix + patch for patch in scan)] for scan in scans)


def order_of_some(order: Tensor | None, index: Tensor) -> Tensor | None:
    """Visit some of the tokens in the order in which a scan visits all of them.

    Args:
        order: the scan of all L tokens, (L,); None is their own order.
        index: positions of K tokens of each image, increasing, (B, K).

    Returns:
        The scan of those K, (B, K), numbers from 0 to K - 1; None where it is their own order.
    """
    if order is None:
        return None
    return order.argsort()[index].argsort(-1)
