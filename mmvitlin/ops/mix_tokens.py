"""MixToken (arXiv 2104.10858): CutMix on patch tokens, so that no token shows two images."""

import torch
from torch import Tensor


def draw_box(rows: int, columns: int, device: torch.device) -> Tensor:
    """Draw a box of tokens by torch's random numbers, as CutMix draws one of pixels.

    Its share of the grid is 1 - lam before it is cut at the edges, lam ~ Beta(1, 1), which is
    uniform; its centre is any token. The box may be empty.

    Returns:
        (rows, columns), bool: True inside.
    """
    lam, y, x = torch.rand(3, device=device).unbind()

    def inside(side: int, centre: Tensor) -> Tensor:
        half = (side * (1 - lam).sqrt()).long() // 2
        middle = (side * centre).long()
        places = torch.arange(side, device=device)
        return (places >= middle - half) & (places < middle + half)

    return inside(rows, y)[:, None] & inside(columns, x)


def swap_box(tokens: Tensor, box: Tensor) -> Tensor:
    """Let the tokens of a box change places with those of the batch in reverse order.

    Done twice it changes nothing: MixToken swaps patches before a model and what becomes of them
    behind it.

    Args:
        tokens: (B, rows, columns, C).
        box: (rows, columns), bool.
    """
    return torch.where(box[..., None], tokens.flip(0), tokens)
