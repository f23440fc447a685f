"""The recurrences between chunks: states that decay from chunk to chunk, one in each direction.

    ahead_0 = 0,     ahead_{n+1} = decay_n * ahead_n + update_n
    back_last = 0,   back_{n-1} = decay_n * back_n + update_n

`chunk_scan` keeps no graph of its steps: the gradient of a recurrence is the recurrence in the
other direction.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


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
    decays = decays.expand(-1, -1, updates.shape[2], -1, -1).unbind(2)
    directions = []
    for update, backwards in zip(updates.unbind(3), (reverse, not reverse)):
        order = slice(None, None, -1 if backwards else 1)
        states = [torch.zeros_like(update[:, :, 0])]
        for added, decay in list(zip(update.unbind(2), decays))[order][:-1]:
            states.append(decay * states[-1] + added)
        directions.append(torch.stack(states[order], 2))
    return torch.stack(directions, 3)


class _ChunkScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, updates: Tensor, decays: Tensor, reverse: bool) -> Tensor:
        states = torch.empty_like(updates)
        steps = range(updates.shape[2])
        both = (steps[::-1], steps) if reverse else (steps, steps[::-1])
        for direction, order in enumerate(both):
            state = torch.zeros_like(updates[:, :, 0, 0])
            states[:, :, order[0], direction] = state
            for done, step in pairwise(order):
                state = torch.addcmul(updates[:, :, done, direction], decays[:, :, done], state)
                states[:, :, step, direction] = state
        ctx.save_for_backward(decays, states)
        ctx.reverse = reverse
        return states

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        decays, states = ctx.saved_tensors
        gradient = chunk_scan(gradient, decays, not ctx.reverse)
        of_decays = None
        if ctx.needs_input_grad[1]:
            of_decays = (gradient * states).sum((3, -2, -1)).unsqueeze(-1).unsqueeze(-1)
            of_decays = of_decays.sum_to_size(decays.shape)
        return gradient, of_decays, None
