"""Activation checkpointing (arXiv 1604.06174) that counts each batch once in BatchNorm."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_block(block: nn.Module, x: Tensor) -> Tensor:
    """Run `block(x)`, keeping only `x` and recomputing the rest in the backward pass.

    Outputs, gradients, random numbers and BatchNorm's running statistics are those of a plain call:
    the second forward normalises by the batch but does not enter it into the averages again.
    """
    return checkpoint(
        block,
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _hold_running_statistics(block)),
    )


@contextmanager
def _hold_running_statistics(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
