"""Cache blocking on CPUs: the naive form in blocks of images, the chunk form in blocks of heads.

`mmvitlin.ops.cache_blocks` says why. The heads of a very long sequence are blocked along the
tokens. Such blocks consist of chunks as chunks consist of tokens: `chunk_scan` computes the
incoming states of each block.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from mmvitlin.ops.cache_blocks import uses_blocks
from mmvitlin.ops.decayed_attention.chunk import (
    CHUNK_SIZE,
    chunk_form,
    state_updates,
    sum_over_chunks,
)
from mmvitlin.ops.decayed_attention.chunk_scan import chunk_scan
from mmvitlin.ops.decayed_attention.decay import (
    Scan,
    append_ones,
    cumulative_log_gates,
    exp_clamped,
    join_mask,
    mask_parts,
    sum_over_scans,
)
from mmvitlin.ops.decayed_attention.naive import naive_form, sum_over_pairs
from mmvitlin.ops.symbolic import is_fixed

CPU_BLOCK_PAIRS = 256 * 1024  # pairs of tokens x heads x images: a mebibyte
# Both count tokens x heads x images. With 64 channels, the queries of a block of heads, scaled for
# both directions, take 28 MiB.
CPU_BLOCK_TOKENS = 56 * 1024
CPU_LONG_BLOCK_TOKENS = 16 * 1024
MIN_HEADS_PER_BLOCK = 3  # with fewer, the steps of `chunk_scan` are many and small
MIN_CHUNKS_PER_BLOCK = 4


def blocked_naive_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """Compute `naive_form`, in blocks of images if no gradient is recorded."""
    B, H, L, _ = q.shape
    if not uses_blocks(q) or B * H * L**2 <= CPU_BLOCK_PAIRS:
        return naive_form(q, k, v, scans)
    size = max(CPU_BLOCK_PAIRS // (H * L**2), 1)
    parts = [mask_parts(scan, L, q.dtype) for scan in scans]
    own = [part for part in parts if part.rows.shape[0] > 1]
    shared = [join_mask(part, L) for part in parts if part.rows.shape[0] == 1]
    shared = [sum(shared[1:], shared[0])] if shared else []
    outs = q.new_empty(B, H, L, v.shape[-1] + 1)  # filled block by block
    for start in range(0, B, size):
        images = slice(start, start + size)
        masks = [join_mask(part.of_images(images), L) for part in own]
        outs[images] = sum_over_pairs(q[images], k[images], v[images], masks + shared)
    return outs


def blocked_chunk_form(
    q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], chunk_size: int = CHUNK_SIZE
) -> Tensor:
    """Compute `chunk_form`, in blocks if the inputs are too large for the cache of a CPU."""
    B, H, L, _ = q.shape
    if not is_fixed(B, L) or not scans or q.device.type != 'cpu' or B * H * L <= CPU_BLOCK_TOKENS:
        return chunk_form(q, k, v, scans, chunk_size)
    is_long = L * MIN_HEADS_PER_BLOCK > CPU_BLOCK_TOKENS
    form = partial(_sum_over_tokens if is_long else _sum_over_heads, chunk_size=chunk_size)
    return sum_over_scans(form, q, k, v, scans)


def _sum_over_heads(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor, chunk_size: int) -> Tensor:
    """Compute the sums of one scan, (B, H, L, E + 1), in blocks of heads of all images."""
    B, H, L, _ = q.shape
    inputs = q, k, v, log_gates.expand(B, -1, -1)
    blocks = [x.flatten(0, 1).unsqueeze(0).split(CPU_BLOCK_TOKENS // L, 1) for x in inputs]
    sums = (
        sum_over_chunks(query, key, value, gate, chunk_size)
        for query, key, value, gate in zip(*blocks)
    )
    out = _concatenate(sums, 1, q.new_empty(1, B * H, L, v.shape[-1] + 1))
    return out.view(B, H, L, -1)


def _sum_over_tokens(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor, chunk_size: int) -> Tensor:
    """Compute the sums of one scan, (B, H, L, E + 1), in blocks of tokens."""
    B, H, _, _ = q.shape
    size = chunk_size * max(CPU_LONG_BLOCK_TOKENS // (B * H * chunk_size), MIN_CHUNKS_PER_BLOCK)
    tokens = [x.split(size, 2) for x in (q, k, v)]
    is_constant = log_gates.shape[2] == 1
    gates = [log_gates] * len(tokens[0]) if is_constant else log_gates.split(size, 2)
    blocks = list(zip(*tokens, gates))
    updates, decays = [], []
    for _, key, value, gate in blocks:
        before, through = cumulative_log_gates(gate.expand(-1, -1, key.shape[2]))
        updates.append(state_updates(key, append_ones(value), before, through))
        decays.append(exp_clamped(through[..., -1:], q.dtype))
    states = chunk_scan(torch.stack(updates, 2), torch.stack(decays, 2).unsqueeze(-1))
    sums = (
        sum_over_chunks(query, key, value, gate, chunk_size, incoming)
        for (query, key, value, gate), incoming in zip(blocks, states.unbind(2))
    )
    return _concatenate(sums, 2, q.new_empty(B, H, q.shape[2], v.shape[-1] + 1))


def _concatenate(blocks: Iterable[Tensor], dim: int, out: Tensor) -> Tensor:
    """Concatenate blocks; without gradients in `out`, so that no two of them are kept."""
    if torch.is_grad_enabled():
        return torch.cat(list(blocks), dim)
    start = 0
    for block in blocks:
        out.narrow(dim, start, block.shape[dim]).copy_(block)
        start += block.shape[dim]
    return out
