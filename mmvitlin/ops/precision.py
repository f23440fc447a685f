"""Computing in the precision that an op asks for, whatever precision surrounds it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Keep autocast from casting what is computed on the device of x; 'meta' knows no autocast."""
    if x.device.type == 'meta':
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
