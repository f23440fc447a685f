"""Decayed attention through the L x L matrix of weights: the equation as it is written."""

from collections.abc import Sequence

from torch import Tensor

from mmvitlin.ops.decayed_attention.decay import Scan, append_ones, decay_mask


def naive_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """Compute numerator and denominator, (B, H, L, E + 1), from all pairs of tokens."""
    weights = q @ k.transpose(-2, -1)
    if scans:
        masks = [decay_mask(scan, q.shape[2], q.dtype) for scan in scans]
        weights = weights * sum(masks[1:], masks[0])
    return weights @ append_ones(v)
