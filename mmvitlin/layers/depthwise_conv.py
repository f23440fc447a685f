"""Depthwise convolution on maps with their channels last."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.ops.depthwise_conv import PART, depthwise_conv
from mmvitlin.ops.symbolic import is_captured


class DepthwiseConv(nn.Conv2d):
    """A k x k depthwise convolution with "same" padding: (B, H, W, C) -> (B, H, W, C).

    A contiguous (B, H, W, C) tensor has the memory layout of a channels_last map (B, C, H, W), so
    that both permutes are views and nothing is copied. On CPUs, the weight gradient of a float32
    kernel of more than three columns is computed by `depthwise_conv`, except where a graph is
    captured.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.is_large = kernel_size > PART

    def forward(self, x: Tensor) -> Tensor:
        # The weight's gradient is channels_last, in which the dimension of size 1 has another
        # stride than in a contiguous weight. The two views give the gradient the strides of the
        # weight, which DistributedDataParallel's buckets have. DistributedDataParallel warns of
        # other strides and copies.
        weight = self.weight.squeeze(1).unsqueeze(1)  # (C, 1, k, k)
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), channels_last
        if self._trains_slowly(x):
            x = depthwise_conv(x, weight, self.bias)
        else:
            x = F.conv2d(x, weight, self.bias, padding=self.padding, groups=self.groups)
        return x.permute(0, 2, 3, 1)

    def _trains_slowly(self, x: Tensor) -> bool:
        on_cpu = x.device.type == 'cpu' and self.weight.dtype == torch.float32
        trains = torch.is_grad_enabled() and self.weight.requires_grad
        return self.is_large and on_cpu and trains and not is_captured()
