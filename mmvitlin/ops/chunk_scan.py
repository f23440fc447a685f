"""The recurrences between chunks: states that decay from chunk to chunk, one in each direction.

    ahead_0 = 0,     ahead_{n+1} = decay_n * (ahead_n) + update_n
    back_last = 0,   back_{n-1} = decay_n * (back_n) + update_n

`chunk_scan` keeps no graph of its steps: the gradient of a recurrence is the recurrence in the other
direction.
"""

from typing import Any

import torch
from torch import Tensor

AHEAD, BACK = 0, 1  # where the two directions stand in a tensor of states


def chunk_scan(updates: Tensor, decays: Tensor, reverse: bool = False) -> Tensor:
    """Accumulate what chunks add, in both directions: the state that each chunk finds.

    Args:
        updates: what each of n chunks adds to the two states, (B, H, n, 2, D, E).
        decays: of the states over each chunk, (B or 1, H, n or 1, 1, 1).
        reverse: exchange the directions.

    Returns:
        The states before each chunk's own update, (B, H, n, 2, D, E).
    """
    return _ChunkScan.apply(updates, decays.expand(-1, -1, updates.shape[2], -1, -1), reverse)


def chunk_scan_naive(updates: Tensor, decays: Tensor, reverse: bool = False) -> Tensor:
    """Accumulate step by step in the graph of autograd: the plain twin, same arguments."""
    directions = []
    for direction, update in enumerate(updates.unbind(3)):
        chunks = list(
            zip(update.unbind(2), decays.expand(-1, -1, updates.shape[2], -1, -1).unbind(2))
        )
        backwards = (direction == BACK) != reverse
        states = [torch.zeros_like(update[:, :, 0])]
        for added, decay in chunks[:0:-1] if backwards else chunks[:-1]:
            states.append(decay * states[-1] + added)
        directions.append(torch.stack(states[::-1] if backwards else states, 2))
    return torch.stack(directions, 3)


class _ChunkScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, updates: Tensor, decays: Tensor, reverse: bool) -> Tensor:
        states = torch.empty_like(updates)
        forwards = range(updates.shape[2])
        backwards = forwards[::-1]
        steps = (
            {AHEAD: backwards, BACK: forwards} if reverse else {AHEAD: forwards, BACK: backwards}
        )
        for direction, order in steps.items():
            states[:, :, order[0], direction] = 0
            for done, step in zip(order, order[1:]):
                torch.addcmul(
                    updates[:, :, done, direction],
                    decays[:, :, done],
                    states[:, :, done, direction],
                    out=states[:, :, step, direction],
                )
        ctx.save_for_backward(decays, states)
        ctx.reverse = reverse
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        decays, states = ctx.saved_tensors
        gradient = chunk_scan(gradient, decays, not ctx.reverse)
        of_decays = (gradient * states).sum((3, -2, -1)).unsqueeze(-1).unsqueeze(-1)
        return gradient, of_decays.sum_to_size(decays.shape), None
