"""Decayed attention in chunks: the matrix within a chunk, states between chunks."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.decayed_attention.chunk_scan import chunk_scan
from mmvitlin.ops.decayed_attention.decay import (
    Scan,
    append_ones,
    cumulative_log_gates,
    exp_clamped,
    mask_from_sums,
    sum_over_scans,
)
from mmvitlin.ops.symbolic import is_fixed

CHUNK_SIZE = 64


def chunk_form(
    q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], chunk_size: int = CHUNK_SIZE
) -> Tensor:
    """Compute numerator and denominator, (B, H, L, E + 1), in chunks of at most `chunk_size`."""
    if not scans:
        return q @ (k.transpose(-2, -1) @ append_ones(v))
    return sum_over_scans(partial(sum_over_chunks, chunk_size=chunk_size), q, k, v, scans)


def sum_over_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gates: Tensor,
    chunk_size: int,
    incoming: Tensor | None = None,
) -> Tensor:
    """Compute the sums of one scan.

    Args:
        incoming: forward and backward states at the ends of the sequence, (B, H, 2, D, E + 1); None
            for zeros.
    """
    length = q.shape[2]
    chunks = (length + chunk_size - 1) // chunk_size
    may_decide = is_fixed(length)
    if may_decide:
        size = -(-length // chunks)
    else:  # a symbolic number of chunks that could be 1 would be fixed, and so one of zeros follows
        chunks, size = chunks + 1, chunk_size

    def split(x: Tensor) -> Tensor:
        """Split (B, H, L, ...) into (B, H, chunks, size, ...), zeros after the last token."""
        if not may_decide or chunks * size > length:
            x = F.pad(x, [0, 0] * (x.ndim - 3) + [0, chunks * size - length])
        return x.unflatten(2, (chunks, size))

    q, k = split(q), split(k)
    # The padding may have values of one, since its keys are zeros.
    v = F.pad(v, (0, 1, 0, chunks * size - length), value=1.0).unflatten(2, (chunks, size))
    if log_gates.shape[2] == 1:  # the same in every chunk
        log_gates = log_gates.unsqueeze(-1).expand(-1, -1, -1, size)
    else:
        log_gates = split(log_gates)
    before, through = cumulative_log_gates(log_gates)
    total = through[..., -1:]

    updates = state_updates(k, v, before, through)
    states = chunk_scan(updates, exp_clamped(total, q.dtype).unsqueeze(-1))
    if incoming is not None:
        before_chunk, through_chunk = cumulative_log_gates(total.squeeze(-1).expand(-1, -1, chunks))
        after_chunk = through_chunk[..., -1:] - through_chunk
        decays = exp_clamped(torch.stack([before_chunk, after_chunk], -1), q.dtype)
        states = torch.addcmul(states, decays[..., None, None], incoming.unsqueeze(2))
    within = q @ k.transpose(-2, -1) * mask_from_sums(before, through, q.dtype) @ v
    queries = _scale_twice(q, before, total - through)
    # The sum of both products, without a tensor in between.
    sums = torch.baddbmm(*(x.flatten(0, 2) for x in (within, queries, states.flatten(3, 4))))
    return sums.view_as(within).flatten(2, 3)[:, :, :length]


def state_updates(k: Tensor, v: Tensor, before: Tensor, through: Tensor) -> Tensor:
    """Compute k^T v per chunk, decayed to its end and to its start, (..., 2, D, E)."""
    keys = _scale_twice(k, through[..., -1:] - before, through)
    return (keys.transpose(-2, -1) @ v).unflatten(-2, (2, -1))


def _scale_twice(x: Tensor, *log_scales: Tensor) -> Tensor:
    """Scale (..., L, D) by the exponential of each (..., L) and concatenate: (..., L, 2 D)."""
    scales = exp_clamped(torch.stack(log_scales, -1), x.dtype).unsqueeze(-1)
    return (x.unsqueeze(-2) * scales).flatten(-2)
