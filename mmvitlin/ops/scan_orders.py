"""Ways along the patches of an image that never jump (arXiv 2502.16249, the order 'S')."""

from functools import lru_cache

import torch
from torch import Tensor


def snake(height: int, width: int) -> Tensor:
    """Patches row by row, to the right on even rows and back on odd ones: (height * width,)."""
    patches = torch.arange(height * width).view(height, width)
    odd = (torch.arange(height) % 2 == 1).unsqueeze(1)
    return torch.where(odd, patches.flip(1), patches).flatten()


def transposed_snake(height: int, width: int) -> Tensor:
    """Patches column by column, down on even columns and up on odd ones: (height * width,)."""
    order = snake(width, height)  # of the transposed grid
    column, row = order // height, order % height
    return row * width + column


@lru_cache(maxsize=64)
def snake_orders(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The two scans of order 'S', the class token first: each (1 + height * width,).

    Kept for each size and device. Not inference tensors even where inference asks first: training
    needs them in its graph.
    """
    with torch.inference_mode(False):
        class_token = torch.zeros(1, dtype=torch.long)
        orders = snake(height, width), transposed_snake(height, width)
        return tuple(torch.cat([class_token, order + 1]).to(device) for order in orders)


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
