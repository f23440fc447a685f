"""Depthwise convolution whose weight gradient is computed in parts on CPUs.

oneDNN is fast for the weight gradient of kernels of at most three columns; that of a 7 x 7 kernel
takes longer than the rest of its forward and backward pass. The gradient of three columns of the
kernel is that of a k x 3 convolution of a shifted map, and a shift of a padded map is an offset in
memory. Channels are independent: those of a large map are computed in blocks, so that a map and its
gradient stay in the cache (`mmvitlin.ops.cache_blocks`).
"""

from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.cache_blocks import block_elements

PART = 3  # columns in a part of the kernel
VECTOR = 16  # channels that oneDNN computes together


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve each channel of x (B, C, H, W) with its own kernel, with "same" padding.

    Args:
        weight: (C, 1, k, k), k odd.
        bias: (C,), or None.
    """
    return _DepthwiseConv.apply(x, weight, bias)


def weight_gradient_in_blocks(x: Tensor, gradient: Tensor, kernel_size: int) -> Tensor:
    """Compute `weight_gradient_in_parts`, same arguments, in blocks of channels."""
    blocks = max(ceil(x.numel() / block_elements()), 1)
    channels = VECTOR * ceil(x.shape[-1] / (VECTOR * blocks))
    return torch.cat(
        [
            weight_gradient_in_parts(*of_channels, kernel_size)
            for of_channels in zip(x.split(channels, -1), gradient.split(channels, -1))
        ]
    )


def weight_gradient_in_parts(x: Tensor, gradient: Tensor, kernel_size: int) -> Tensor:
    """Compute the gradient of the weight, (C, 1, k, k).

    Args:
        x, gradient: input and gradient of the output, (B, H, W, C).
        kernel_size: odd, at least `PART`.
    """
    B, H, _, C = x.shape
    radius, reach = kernel_size // 2, kernel_size - PART
    x = F.pad(x, (0, 0, radius, radius, 0, 0, 0, 1))  # one image more: views begin at any shift
    columns, pixels = x.shape[2], x.flatten(0, 2)
    # Pixels that a shift wraps around an edge meet the zeros of the padded gradient.
    gradient = F.pad(gradient, (0, 0, 0, reach)).permute(0, 3, 1, 2)
    part = x.new_empty(C, 1, kernel_size, PART)
    weight = x.new_empty(C, 1, kernel_size, kernel_size)
    for start in (*range(0, reach, PART), reach):  # the last part may overlap the one before
        shifted = pixels.narrow(0, start, B * H * columns).unflatten(0, (B, H, columns))
        shifted = shifted.permute(0, 3, 1, 2)
        found = _convolution_backward(shifted, gradient, part, [radius, 0], [False, True, False])
        weight[..., start : start + PART] = found[1]
    return weight


def _convolution_backward(
    x: Tensor, gradient: Tensor, weight: Tensor, padding: list[int], mask: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of input, weight and bias that `mask` selects."""
    channels = weight.shape[0]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [channels], [1, 1], padding, [1, 1], False, [0, 0], channels, mask
    )


class _DepthwiseConv(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        # The convolution's dtype under autocast
        x, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)
        size = weight.shape[-1]
        of_x, of_weight, of_bias = ctx.needs_input_grad
        found_x = found_weight = found_bias = None
        if of_x:
            mask = [True, False, False]
            found_x = _convolution_backward(x, gradient, weight, [size // 2] * 2, mask)[0]
        if of_weight:
            found_weight = weight_gradient_in_blocks(
                x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1), size
            )
        if of_bias:
            found_bias = gradient.sum((0, 2, 3))
        return found_x, found_weight, found_bias
