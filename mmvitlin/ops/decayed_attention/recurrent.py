"""Decayed attention token by token: a recurrence in each direction."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmvitlin.ops.decayed_attention.decay import Scan, append_ones, sum_over_scans


def recurrent_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """Compute numerator and denominator, (B, H, L, E + 1), from a state of D x (E + 1)."""
    if not scans:
        scans = [Scan(q.new_zeros(1, 1, 1))]
    return sum_over_scans(_bidirectional, q, k, v, scans)


def _bidirectional(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor) -> Tensor:
    gates = log_gates.expand(-1, -1, q.shape[2]).to(q.dtype).exp()
    tokens = (q, k, append_ones(v), gates)
    return _causal(*tokens) + _causal(*(x.flip(2) for x in tokens)).flip(2)


def _causal(q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
    """Sum over the past; the diagonal has weight 1/2, since both directions contain it."""
    state, outs = 0.0, []
    for query, key, value, gate in zip(*(x.unbind(2) for x in (q, k, v, gates))):
        update = key.unsqueeze(-1) * value.unsqueeze(-2)  # (B, H, D, E + 1)
        outs.append(query.unsqueeze(-2) @ (state + 0.5 * update))
        state = gate[..., None, None] * (state + update)
    return torch.cat(outs, -2)
