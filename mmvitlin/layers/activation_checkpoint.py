"""Activation checkpointing (arXiv 1604.06174) that counts each batch once in BatchNorm."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

# From so many tokens on a layer keeps less for the backward pass and calculates it again: an image
# of 512 x 512 in patches of 16 has as many. benchmarks/README.md has the numbers.
LONG = 1024

is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)  # torch < 2.3 has none


def checkpoint_block(block: nn.Module, x: Tensor, *args: Any) -> Tensor:
    """Run `block(x, *args)`, keeping these and recomputing the rest in the backward pass.

    Outputs, gradients, random numbers and BatchNorm's running statistics are those of a plain call:
    the second forward normalises by the batch but does not enter it into the averages again.
    """
    if is_compiling():  # the compiler recomputes by itself what a trace holds once
        return checkpoint(block, x, *args, use_reentrant=False)
    return checkpoint(
        block,
        x,
        *args,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _hold_running_statistics(block)),
    )


def recompute_if_long(function: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
    """Run `function(x, *args)`; of `LONG` tokens and more keep x (..., L, C) and none of the steps.

    For functions without random numbers and running statistics.
    """
    if x.shape[-2] < LONG or not torch.is_grad_enabled():
        return function(x, *args)
    return checkpoint(function, x, *args, use_reentrant=False, preserve_rng_state=False)


@contextmanager
def _hold_running_statistics(block: nn.Module) -> Iterator[None]:
    """Let BatchNorm write into copies of its buffers, for the length of the context."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, kept):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)
