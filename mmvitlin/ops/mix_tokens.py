"""MixToken (arXiv 2104.10858): CutMix on patch tokens, so that no token shows two images."""

import torch
from torch import Tensor


def draw_box(rows: int, columns: int, device: torch.device) -> Tensor:
    """Draw a random box of tokens from torch's generator, as CutMix draws a box of pixels.

    Before it is clipped at the edges it covers a fraction 1 - lam of the grid, with lam from the
    uniform distribution, Beta(1, 1); its centre is uniform too. The box may be empty.

    Returns:
        (rows, columns), bool: True inside.
    """
    lam, y, x = torch.rand(3, device=device).unbind()

    def inside(side: int, centre: Tensor) -> Tensor:
        half = (side * (1 - lam).sqrt()).long() // 2
        middle = (side * centre).long()
        positions = torch.arange(side, device=device)
        return (positions >= middle - half) & (positions < middle + half)

    return inside(rows, y)[:, None] & inside(columns, x)


def swap_box(tokens: Tensor, box: Tensor) -> Tensor:
    """Swap the tokens of a box with those of the batch in reverse order.

    The function is its own inverse: MixToken swaps patches before a model, and their outputs back
    after it.

    Args:
        tokens: (B, rows, columns, C).
        box: (rows, columns), bool.
    """
    return torch.where(box[..., None], tokens.flip(0), tokens)
