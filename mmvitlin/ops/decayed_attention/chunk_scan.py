"""Exclusive scans over the states of chunks, one in each direction.

    forward_0 = 0,       forward_{n+1} = decay_n * forward_n + update_n
    backward_last = 0,   backward_{n-1} = decay_n * backward_n + update_n

`chunk_scan` keeps no graph of its steps: the gradient of a recurrence is the recurrence in the
other direction.
"""

from typing import Any

import torch
from torch import Tensor

from mmvitlin.ops.decayed_attention.decay import cumulative_log_gates, exp_clamped
from mmvitlin.ops.symbolic import is_exporting, is_fixed


def chunk_scan(updates: Tensor, decays: Tensor, reverse: bool = False) -> Tensor:
    """Compute the exclusive scan of chunk states, forward and backward.

    Args:
        updates: added to the two states by each of n chunks, (B, H, n, 2, D, E).
        decays: of the states over each chunk, (B or 1, H, n or 1, 1, 1).
        reverse: exchange the directions.

    Returns:
        The states before each chunk's own update, (B, H, n, 2, D, E).
    """
    # No loop over a symbolic number of chunks is possible, and in one of an exported program ONNX
    # would fix the batch.
    if not is_fixed(updates.shape[2]) or is_exporting():
        return chunk_scan_parallel(updates, decays, reverse)
    return _ChunkScan.apply(updates, decays.expand(-1, -1, updates.shape[2], -1, -1), reverse)


def chunk_scan_parallel(updates: Tensor, decays: Tensor, reverse: bool = False) -> Tensor:
    """Compute the same scan, same arguments, as a product with the decays between all n^2 pairs."""
    logs = decays[..., 0, 0].log().expand(-1, -1, updates.shape[2])
    before, through = cumulative_log_gates(logs)
    between = (before.unsqueeze(-1) - through.unsqueeze(-2)).clamp(max=0)
    forward = exp_clamped(between, updates.dtype).tril(-1)  # (B or 1, H, n, n), from past to later
    both = (forward.mT, forward) if reverse else (forward, forward.mT)
    states = torch.stack(both) @ updates.permute(3, 0, 1, 2, 4, 5).flatten(4)
    return states.unflatten(4, updates.shape[4:]).permute(1, 2, 3, 0, 4, 5)


def chunk_scan_naive(updates: Tensor, decays: Tensor, reverse: bool = False) -> Tensor:
    """Compute the same scan step by step in autograd's graph: the plain twin, same arguments."""
    of_chunks = decays.expand(-1, -1, updates.shape[2], -1, -1).unbind(2)
    directions = []
    for update, backwards in zip(updates.unbind(3), (reverse, not reverse)):
        order = slice(None, None, -1 if backwards else 1)
        states = [torch.zeros_like(update[:, :, 0])]
        for added, decay in list(zip(update.unbind(2), of_chunks))[order][:-1]:
            states.append(decay * states[-1] + added)
        directions.append(torch.stack(states[order], 2))
    return torch.stack(directions, 3)


class _ChunkScan(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(updates: Tensor, decays: Tensor, reverse: bool) -> Tensor:
        states = torch.zeros_like(updates)
        first, second = states.unbind(3)
        ahead, back = (second, first) if reverse else (first, second)
        ahead[:, :, 1:] = updates[:, :, :-1, int(reverse)]
        back[:, :, :-1] = updates[:, :, 1:, int(not reverse)]
        last = updates.shape[2] - 1
        for step in range(1, last):
            ahead[:, :, step + 1].addcmul_(decays[:, :, step], ahead[:, :, step])
            step = last - step
            back[:, :, step - 1].addcmul_(decays[:, :, step], back[:, :, step])
        return states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, decays, ctx.reverse = inputs
        ctx.save_for_backward(decays, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        decays, states = ctx.saved_tensors
        gradient = chunk_scan(gradient, decays, not ctx.reverse)
        of_decays = None
        if ctx.needs_input_grad[1]:
            of_decays = (gradient * states).sum((3, -2, -1)).unsqueeze(-1).unsqueeze(-1)
            of_decays = of_decays.sum_to_size(decays.shape)
        return gradient, of_decays, None
