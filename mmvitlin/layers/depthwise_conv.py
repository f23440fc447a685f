"""Depthwise convolution on maps with their channels last."""

from torch import Tensor, nn


class DepthwiseConv(nn.Conv2d):
    """A k x k depthwise convolution with "same" padding: (B, H, W, C) -> (B, H, W, C).

    A contiguous (B, H, W, C) tensor has the memory layout of a channels_last map (B, C, H, W), so
    that both permutes are views and nothing is copied.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x.permute(0, 3, 1, 2))  # (B, C, H, W), channels_last
        return x.permute(0, 2, 3, 1)
