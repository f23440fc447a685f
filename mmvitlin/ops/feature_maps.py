"""Feature maps of linear attention: what makes q . k a positive weight (arXiv 2502.16249)."""

import torch
import torch.nn.functional as F
from torch import Tensor

SILU_SHIFT = 0.5  # SiLU is nowhere below -0.28


def elu_features(x: Tensor) -> Tensor:
    """elu(x) + 1, written so that features far below 0 keep their digits; any shape.

    Half-precision inputs give float32, here and below.
    """
    x = _widen(x)
    return x.clamp(max=0).exp() + x.relu()


def unit_silu_features(x: Tensor) -> Tensor:
    """SiLU(x) + 0.5, of unit 2-norm over the last dimension; any shape."""
    return F.normalize(F.silu(_widen(x)) + SILU_SHIFT, dim=-1)


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
