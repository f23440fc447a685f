"""Bidirectional linear attention with decay, in three forms that give the same (arXiv 2502.16249).

    out_i = sum_j M_ij (q_i . k_j) v_j / sum_j M_ij (q_i . k_j)

    M_ij = g_j ... g_{i-1} for j < i,    1 for j = i,    g_{i+1} ... g_j for j > i

What token i reads from token j is discounted by the gate of j and by those between, never by its
own. `attention_form` is the equation, O(L^2 D) a head; `recurrent_form` walks along the tokens once
in each direction, O(L D^2) with a state of D x D; `chunk_form` is the fast one, O(L (C D + D^2)):
the equation within chunks of C tokens, a decayed state between them, in both directions.

All take q, k (B, H, L, D), v (B, H, L, E) and scans of the tokens, and return numerator and
denominator together, (B, H, L, E + 1), summed over the scans; `decayed_attention` divides them.
Without a scan there is no decay: M = 1.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.chunk_scan import chunk_scan
from mmvitlin.ops.precision import without_autocast

CHUNK_SIZE = 64
# Tokens, times heads, times images: more than LONG `chunk_form` takes in pieces on a CPU, so that
# what it needs besides inputs and outputs stays in the cache, however long the sequence.
LONG, PIECE = 48 * 1024, 16 * 1024
# The least logarithm of a decay: beside M_ii = 1 its exponential is nothing in the dtype, and where
# exp underflows it takes thirty times as long.
LEAST_LOG = {torch.float32: -60.0, torch.float64: -600.0}


class Scan(NamedTuple):
    """One way along the tokens.

    Args:
        log_gates: logarithms of the gates, at most 0, in the tokens' own order, (B or 1, H, L), or
            (B or 1, H, 1) where a head has the same gate everywhere.
        order: the tokens in the order of the scan, (L,) or (B, L); None is their own order.
    """

    log_gates: Tensor
    order: Tensor | None = None


Form = Callable[[Tensor, Tensor, Tensor, Sequence[Scan]], Tensor]


def decayed_attention(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], form: Form) -> Tensor:
    """Attend in both directions along each of `scans`.

    Half-precision inputs are computed in float32.

    Args:
        q, k: queries and keys behind their feature map, so that q_i . k_j > 0, (B, H, L, D).
        v: values, (B, H, L, E).
        scans: ways along the tokens; none for M = 1.
        form: `attention_form`, `recurrent_form` or `chunk_form`.

    Returns:
        (B, H, L, E) in the dtype of v.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    with without_autocast(v):
        sums = form(q.to(dtype), k.to(dtype), v.to(dtype), scans)
        # The floor gives 0, not nan, where the features of a query have all underflowed to 0.
        return (sums[..., :-1] / sums[..., -1:].clamp(min=torch.finfo(dtype).tiny)).to(v.dtype)


# The equation


def attention_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """Sum through the L x L matrix of weights."""
    weights = q @ k.transpose(-2, -1)
    if scans:
        masks = [decay_mask(scan, q.shape[2], q.dtype) for scan in scans]
        weights = weights * sum(masks[1:], masks[0])
    return weights @ _with_ones(v)


def decay_mask(scan: Scan, length: int, dtype: torch.dtype) -> Tensor:
    """The matrix M of a scan over `length` tokens, in the tokens' own order, (B or 1, H, L, L)."""
    log_gates = scan.log_gates.expand(-1, -1, length)
    if scan.order is None:
        return _mask(*_sums_along(log_gates), dtype)
    rank = scan.order.argsort(-1)
    before, through = (_take(x, rank) for x in _sums_along(_take(log_gates, scan.order)))
    return _mask(before, through, dtype, rank if rank.ndim == 1 else rank.unsqueeze(1))


def _mask(
    before: Tensor, through: Tensor, dtype: torch.dtype, rank: Tensor | None = None
) -> Tensor:
    """M from the sums of the gates' logarithms before and through each token, (..., L, L)."""
    if rank is None:
        rank = torch.arange(before.shape[-1], device=before.device)
    return _Mask.apply(before, through, rank.unsqueeze(-1) >= rank.unsqueeze(-2), dtype)


class _Mask(torch.autograd.Function):
    """M_ij = exp(before_i - before_j) in the past, exp(through_j - through_i) in the future.

    M alone is kept for the backward pass, where autograd would keep every step towards it.
    """

    @staticmethod
    def forward(
        ctx: Any, before: Tensor, through: Tensor, in_past: Tensor, dtype: torch.dtype
    ) -> Tensor:
        from_past = (before.unsqueeze(-1) - before.unsqueeze(-2)).to(dtype)
        from_future = (through.unsqueeze(-2) - through.unsqueeze(-1)).to(dtype)
        logs = torch.where(in_past, from_past, from_future)
        mask = logs.clamp_(min=LEAST_LOG[dtype]).exp_()
        ctx.save_for_backward(mask, in_past)
        ctx.dtype = before.dtype
        return mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        mask, in_past = ctx.saved_tensors
        gradient = gradient * mask
        past = gradient * in_past
        future = gradient - past
        of_before = past.sum(-1, dtype=ctx.dtype) - past.sum(-2, dtype=ctx.dtype)
        of_through = future.sum(-2, dtype=ctx.dtype) - future.sum(-1, dtype=ctx.dtype)
        return of_before, of_through, None, None


def _sums_along(log_gates: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the logarithms before and through each token of the last dimension.

    float64: over a thousand gates near 0 float32 would leave their differences three digits.
    """
    log_gates = log_gates.double().clamp(min=LEAST_LOG[torch.float64])
    through = log_gates.cumsum(-1)
    return through - log_gates, through


def _exp(logs: Tensor, dtype: torch.dtype) -> Tensor:
    return logs.clamp(min=LEAST_LOG[dtype]).to(dtype).exp()


def _with_ones(v: Tensor) -> Tensor:
    """Put a column of ones behind v: what is summed there is the denominator."""
    return F.pad(v, (0, 1), value=1.0)


# Along the tokens


def recurrent_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """Sum by a walk in each direction, which hands on a state of D x (E + 1)."""
    if not scans:
        scans = [Scan(q.new_zeros(1, 1, 1))]
    return _over_scans(_walk_both_ways, q, k, v, scans)


def _walk_both_ways(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor) -> Tensor:
    tokens = (q, k, _with_ones(v), log_gates.expand(-1, -1, q.shape[2]).to(q.dtype).exp())
    return _walk(*tokens) + _walk(*(x.flip(2) for x in tokens)).flip(2)


def _walk(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
    """What tokens read from those before them, and half of what they read from themselves."""
    state, outs = 0.0, []
    for query, key, value, gate in zip(*(x.unbind(2) for x in (q, k, v, gates))):
        update = key.unsqueeze(-1) * value.unsqueeze(-2)  # (B, H, D, E + 1)
        outs.append(query.unsqueeze(-2) @ (state + 0.5 * update))
        state = gate[..., None, None] * (state + update)
    return torch.cat(outs, -2)


def _over_scans(form: Callable, q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """The sum over scans of `form(q, k, v, log_gates)`, which sees tokens in the scan's order."""
    sums = []
    for log_gates, order in scans:
        if order is None:
            sums.append(form(q, k, v, log_gates))
        else:
            gates = log_gates if log_gates.shape[2] == 1 else _take(log_gates, order)
            along = form(*(_take(x, order) for x in (q, k, v)), gates)
            sums.append(_take(along, order.argsort(-1)))
    return sum(sums[1:], sums[0])


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Tokens of x (B or 1, H, L, ...) in an order (L,), or (B, L) where each image has its own."""
    if order.ndim == 1:
        return x.index_select(2, order)
    return torch.take_along_dim(x, order.view(len(order), 1, -1, *[1] * (x.ndim - 3)), 2)


# In chunks


def chunk_form(
    q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], chunk_size: int = CHUNK_SIZE
) -> Tensor:
    """Sum within chunks of at most `chunk_size` tokens, and by states between them."""
    if not scans:
        return q @ (k.transpose(-2, -1) @ _with_ones(v))
    return _over_scans(partial(_by_pieces, chunk_size=chunk_size), q, k, v, scans)


def _by_pieces(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor, chunk_size: int) -> Tensor:
    """Cut what is long for the cache of a CPU into pieces, and those into chunks."""
    B, H, L, _ = q.shape
    size = max(PIECE // (max(B * H, 1) * chunk_size), 4) * chunk_size
    if q.device.type != 'cpu' or size >= L or B * H * L <= LONG:
        return _by_chunks(q, k, v, log_gates, chunk_size)
    pieces = [x.split(size, 2) for x in (q, k, v)]
    alike = log_gates.shape[2] == 1
    pieces.append([log_gates] * len(pieces[0]) if alike else log_gates.split(size, 2))
    pieces = list(zip(*pieces))
    updates, decays = [], []
    for _, key, value, gates in pieces:
        before, through = _sums_along(gates.expand(-1, -1, key.shape[2]))
        total = through[..., -1:]
        updates.append(_write(key, _with_ones(value), total - before, through))
        decays.append(_exp(total, q.dtype))
    states = chunk_scan(torch.stack(updates, 2), torch.stack(decays, 2).unsqueeze(-1))
    found = (
        _by_chunks(*piece, chunk_size, state) for piece, state in zip(pieces, states.unbind(2))
    )
    if torch.is_grad_enabled():
        return torch.cat(list(found), 2)
    outs = q.new_empty(B, H, L, v.shape[-1] + 1)  # one piece at a time is held beside it
    for out, piece in zip(outs.split(size, 2), found):
        out.copy_(piece)
    return outs


def _by_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_gates: Tensor,
    chunk_size: int,
    outside: Tensor | None = None,
) -> Tensor:
    """Sum a piece that finds the states `outside` before and behind it, (B, H, 2, D, E + 1)."""
    length = q.shape[2]
    chunks = -(-length // chunk_size)
    size = -(-length // chunks)

    def split(x: Tensor) -> Tensor:
        """(B, H, L, ...) -> (B, H, chunks, size, ...), zeros behind the last token."""
        if chunks * size > length:
            x = F.pad(x, [0, 0] * (x.ndim - 3) + [0, chunks * size - length])
        return x.unflatten(2, (chunks, size))

    q, k, v = split(q), split(k), _with_ones(split(v))
    if log_gates.shape[2] == 1:  # all chunks are alike
        log_gates = log_gates.unsqueeze(-1).expand(-1, -1, -1, size)
    else:
        log_gates = split(log_gates)
    before, through = _sums_along(log_gates)
    total = through[..., -1:]
    from_past, from_future = before, total - through

    updates = _write(k, v, total - before, through)
    states = chunk_scan(updates, _exp(total, q.dtype).unsqueeze(-1))
    if outside is not None:
        before_chunk, through_chunk = _sums_along(total.squeeze(-1).expand(-1, -1, chunks))
        behind_chunk = through_chunk[..., -1:] - through_chunk
        reach = _exp(torch.stack([before_chunk, behind_chunk], -1), q.dtype)  # (B, H, chunks, 2)
        states = states + reach[..., None, None] * outside.unsqueeze(2)
    within = q @ k.transpose(-2, -1) * _mask(before, through, q.dtype) @ v
    across = _scale_twice(q, from_past, from_future) @ states.flatten(3, 4)
    return (within + across).flatten(2, 3)[:, :, :length]


def _write(k: Tensor, v: Tensor, to_end: Tensor, to_start: Tensor) -> Tensor:
    """What tokens add to the states behind and before them, (..., 2, D, E)."""
    keys = _scale_twice(k, to_end, to_start)
    return (keys.transpose(-2, -1) @ v).unflatten(-2, (2, -1))


def _scale_twice(x: Tensor, *log_scales: Tensor) -> Tensor:
    """Scale (..., L, D) by the exponential of each (..., L); side by side, (..., L, 2 D)."""
    scales = _exp(torch.stack(log_scales, -1), x.dtype).unsqueeze(-1)
    return (x.unsqueeze(-2) * scales).flatten(-2)
