"""Precision of ops, independent of autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Disable autocast on the device of x; the meta device has none."""
    if x.device.type == 'meta':
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
