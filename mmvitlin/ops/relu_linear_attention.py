"""ReLU linear attention, the global attention of L2ViT (arXiv 2501.16182).

With q, k >= 0 after a ReLU, attention over N tokens needs no N x N matrix:

    out_i = t_h * q_i (sum_j k_j^T v_j) / max(q_i . sum_j k_j, 100)

`relu_linear_attention` computes the brackets first, O(N D^2) per head. Its plain twin,
`relu_linear_attention_naive`, computes the scores q k^T first, O(N^2 D).
"""

import torch
from torch import Tensor

from mmvitlin.ops.precision import without_autocast

DENOMINATOR_FLOOR = 100.0  # the paper's clamp: below it the output is no longer an average of v


def relu_linear_attention(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Attend globally in linear time.

    Half-precision inputs are computed in float32: sums over tokens soon exceed 65,504.

    Args:
        q, k, v: queries, keys (before their ReLU) and values, (B, H, N, D).
        temperature: one learned factor per head, (H, 1, 1).

    Returns:
        (B, H, N, D) in the dtype of v.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    with without_autocast(v):
        q, k = q.to(dtype).relu(), k.to(dtype).relu()
        context = k.transpose(-2, -1) @ v.to(dtype) * temperature.to(dtype)  # (B, H, D, D)
        total = k.sum(-2).unsqueeze(-1)  # (B, H, D, 1)
        return ((q @ context) / (q @ total).clamp(min=DENOMINATOR_FLOOR)).to(v.dtype)


def relu_linear_attention_naive(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Attend globally through the N x N matrix of scores: the plain twin, same arguments."""
    scores = q.relu() @ k.relu().transpose(-2, -1)  # (B, H, N, N)
    return scores @ v * temperature / scores.sum(-1, keepdim=True).clamp(min=DENOMINATOR_FLOOR)
