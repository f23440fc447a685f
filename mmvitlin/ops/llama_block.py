"""A block of LLaMA over image tokens (arXiv 2302.13971, as arXiv 2310.12973 uses it).

Without a causal mask and rotary positions: every token attends to every other, and positions come
from the ViT before the block.

    h   = x + Wo attention(RMSNorm(x))
    out = h + W2 (SiLU(W1 n) * W3 n),    n = RMSNorm(h)

`llama_block` attends through torch's fused softmax attention. Its plain twin, `llama_block_naive`,
writes out the N x N matrix.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.precision import without_autocast

RMS_EPS = 1e-6  # LLaMA's


def rms_norm(x: Tensor, weight: Tensor | None = None) -> Tensor:
    """Divide x (..., C) by its root mean square over C, in float32 or better; scale by `weight`."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + RMS_EPS)
    return x if weight is None else x * weight.to(x.dtype)


def llama_block(x: Tensor, weights: Mapping[str, Tensor], num_heads: int) -> Tensor:
    """Apply a block, ignoring autocast.

    Matrix products are computed in the dtype of the weights, norms and the residual stream in
    float32 or better: LLaMA's residual stream overflows float16.

    Args:
        x: tokens, (B, N, C).
        weights: by Meta's names: 'attention.wq.weight', 'wk', 'wv' and 'wo', each (C, C);
            'feed_forward.w1.weight' and 'w3', (F, C), 'w2', (C, F); 'attention_norm.weight' and
            'ffn_norm.weight', (C,).
        num_heads: attention heads of D = C / num_heads channels, scaled by D^-0.5.

    Returns:
        (B, N, C), float32, or float64 where x is.
    """
    return _apply(x, weights, num_heads, F.scaled_dot_product_attention)


def llama_block_naive(x: Tensor, weights: Mapping[str, Tensor], num_heads: int) -> Tensor:
    """Apply a block with softmax attention written out: the plain twin, same arguments."""
    return _apply(x, weights, num_heads, _softmax_attention)


def _apply(
    x: Tensor,
    weights: Mapping[str, Tensor],
    num_heads: int,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    dtype = weights['attention.wq.weight'].dtype
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    with without_autocast(x):
        n = rms_norm(x, weights['attention_norm.weight']).to(dtype)
        q, k, v = (
            F.linear(n, weights[f'attention.{name}.weight'])
            .unflatten(-1, (num_heads, -1))
            .transpose(1, 2)  # (B, heads, N, D)
            for name in ('wq', 'wk', 'wv')
        )
        attended = attend(q, k, v).transpose(1, 2).flatten(2)  # (B, N, C)
        h = x + F.linear(attended, weights['attention.wo.weight']).to(x.dtype)
        n = rms_norm(h, weights['ffn_norm.weight']).to(dtype)
        gate = F.silu(F.linear(n, weights['feed_forward.w1.weight']))
        gated = gate * F.linear(n, weights['feed_forward.w3.weight'])
        return h + F.linear(gated, weights['feed_forward.w2.weight']).to(x.dtype)


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, heads, N, N)
    return scores.softmax(-1) @ v
