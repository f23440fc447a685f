"""Decayed attention through the L x L matrix of weights: the equation as it is written."""

from collections.abc import Sequence

from torch import Tensor

from mmvitlin.ops.decayed_attention.decay import Scan, append_ones, decay_mask


def naive_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan]) -> Tensor:
    """Compute numerator and denominator, (B, H, L, E + 1), from all pairs of tokens."""
    return sum_over_pairs(q, k, v, [decay_mask(scan, q.shape[2], q.dtype) for scan in scans])


def sum_over_pairs(q: Tensor, k: Tensor, v: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Compute the sums of tokens that are weighted by q . k and the sum of masks."""
    weights = q @ k.transpose(-2, -1)
    if masks:
        weights = weights * sum(masks[1:], masks[0])
    return weights @ append_ones(v)
