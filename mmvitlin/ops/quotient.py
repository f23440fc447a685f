"""Quotients with a backward pass of their own."""

from typing import Any

import torch
from torch import Tensor


class Quotient(torch.autograd.Function):
    """Base of functions that return a quotient and its denominator.

    They keep the two for the backward pass, where autograd would keep, and compute with, more
    tensors. The denominator is not differentiable. Subclasses have `forward` and `backward`.
    """

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*output)
