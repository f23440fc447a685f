"""Feature maps of linear attention, which make q . k positive (arXiv 2502.16249)."""

import torch
import torch.nn.functional as F
from torch import Tensor

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
    return F.normalize(silu_features(x), dim=-1)


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
