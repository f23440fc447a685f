"""Gradient checkpointing (arXiv 1604.06174) that updates BatchNorm's statistics once per batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmvitlin.ops.symbolic import is_compiling, is_fixed

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Layers checkpoint their largest steps from this length on: the tokens of an image of 512 x 512 in
# patches of 16. benchmarks/README.md has the numbers.
CHECKPOINT_MIN_TOKENS = 1024


def run_block(block: nn.Module, x: Tensor, *args: Any, with_cp: bool) -> Tensor:
    """Run `block(x, *args)`, checkpointed if `with_cp` is set and gradients are recorded."""
    if with_cp and torch.is_grad_enabled():
        return checkpoint_block(block, x, *args)
    return block(x, *args)


def checkpoint_block(block: nn.Module, x: Tensor, *args: Any) -> Tensor:
    """Run `block(x, *args)`, keeping only its inputs and recomputing the rest in the backward pass.

    Outputs, gradients, random numbers and BatchNorm's running statistics are those of a plain call:
    the recomputation normalises by the batch but does not update the statistics again.
    """
    if is_compiling():  # a compiled graph holds the block once and recomputes it by itself
        return checkpoint(block, x, *args, use_reentrant=False)
    return checkpoint(
        block,
        x,
        *args,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _hold_running_statistics(block)),
    )


def checkpoint_if_long(function: Callable[..., Tensor], x: Tensor, *args: Any) -> Tensor:
    """Run `function(x, *args)`, checkpointed if x (..., L, C) has `CHECKPOINT_MIN_TOKENS` or more.

    For functions without random numbers and running statistics. A symbolic length, in an export or
    a compiled graph, must not be compared: such runs are never checkpointed.
    """
    length = x.shape[-2]
    if not torch.is_grad_enabled() or not is_fixed(length) or length < CHECKPOINT_MIN_TOKENS:
        return function(x, *args)
    return checkpoint(function, x, *args, use_reentrant=False, preserve_rng_state=False)


@contextmanager
def _hold_running_statistics(block: nn.Module) -> Iterator[None]:
    """Replace BatchNorm's buffers by copies inside the context, so that updates are discarded."""
    norms = [module for module in block.modules() if isinstance(module, BATCH_NORMS)]
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
