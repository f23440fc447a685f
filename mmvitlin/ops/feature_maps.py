"""Feature maps of linear attention, which make q . k positive (arXiv 2502.16249)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.quotient import Quotient
from mmvitlin.ops.symbolic import is_captured

SILU_SHIFT = 0.5  # the minimum of SiLU is -0.28


def elu_features(x: Tensor) -> Tensor:
    """Compute elu(x) + 1 of any shape, without cancellation for x far below 0.

    Half-precision inputs give float32, here and below.
    """
    x = _widen(x)
    return x.clamp(max=0).exp() + x.relu()


def silu_features(x: Tensor) -> Tensor:
    """Compute SiLU(x) + 0.5 of any shape."""
    return F.silu(_widen(x)).add_(SILU_SHIFT)


def unit_silu_features(x: Tensor) -> Tensor:
    """Compute SiLU(x) + 0.5 of any shape, divided by its 2-norm over the last dimension."""
    x = silu_features(x)
    return F.normalize(x, dim=-1) if is_captured() else _Normalize.apply(x)[0]


class _Normalize(Quotient):
    """Positive x over its 2-norm over the last dimension, and the norm."""

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / norms, norms

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        out, norms = ctx.saved_tensors
        along = (gradient * out).sum(-1, keepdim=True)
        return torch.addcmul(gradient, out, along, value=-1) / norms


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
