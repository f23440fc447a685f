"""The chunk form on GPUs by flash-linear-attention (arXiv 2312.06635), if installed.

Its operator `chunk_simple_gla` computes, for gates in logarithms,

    S_t = exp(g_t) S_{t-1} + k_t v_t^T,    o_t = scale * q_t S_t

LION's sum over the past is this with the gates of the previous tokens. Its sum over the future is
this on the reversed tokens without the token itself, since M_ii counts once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.decayed_attention.blocking import blocked_chunk_form
from mmvitlin.ops.decayed_attention.chunk import CHUNK_SIZE
from mmvitlin.ops.decayed_attention.decay import (
    MIN_LOG_DECAY,
    Scan,
    append_ones,
    sum_over_scans,
)

Gla = Callable[..., tuple[Tensor, Tensor | None]]


def fla_form(
    q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], chunk_size: int = CHUNK_SIZE
) -> Tensor:
    """Compute numerator and denominator, (B, H, L, E + 1), by Triton kernels on a GPU.

    On other devices, without flash-linear-attention (the package fla-core), and without gates,
    `blocked_chunk_form` is used, in chunks of `chunk_size`. The kernels choose their own chunks,
    and multiply in TF32 where the GPU has it.
    """
    if not scans or q.device.type != 'cuda' or find_spec('fla') is None:
        return blocked_chunk_form(q, k, v, scans, chunk_size)
    from fla.ops.simple_gla import chunk_simple_gla

    return sum_over_scans(partial(sum_by_gla, gla=chunk_simple_gla), q, k, v, scans)


def sum_by_gla(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor, gla: Gla) -> Tensor:
    """Compute the sums of one scan, (B, H, L, E + 1), by an operator `chunk_simple_gla`."""
    B, H, L, _ = q.shape
    gates = log_gates.clamp(min=MIN_LOG_DECAY[q.dtype]).to(q.dtype).expand(B, H, L)
    v = append_ones(v)
    past = _scan(q, k, v, _after_one(gates), gla)
    q, k, v, gates = (x.flip(2) for x in (q, k, v, gates))
    # Each token is multiplied by its own gate and added one step later.
    decayed = k * gates.exp().unsqueeze(-1)
    future = _scan(q, _after_one(decayed), _after_one(v), _after_one(gates), gla)
    return past + future.flip(2)


def _after_one(x: Tensor) -> Tensor:
    """Shift (B, H, L, ...) by one token towards the end; the first becomes zero."""
    return F.pad(x[:, :, :-1], [0, 0] * (x.ndim - 3) + [1, 0])


def _scan(q: Tensor, k: Tensor, v: Tensor, log_gates: Tensor, gla: Gla) -> Tensor:
    """Apply `gla`, which takes (B, L, H, ...)."""
    tokens = (x.transpose(1, 2).contiguous() for x in (q, k, v, log_gates))
    return gla(*tokens, scale=1.0)[0].transpose(1, 2)
