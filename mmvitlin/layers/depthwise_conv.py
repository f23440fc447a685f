"""Depthwise convolutions on maps whose channels come last."""

from torch import Tensor, nn


class DepthwiseConv(nn.Conv2d):
    """A k x k depthwise convolution, same size out, on (B, H, W, C).

    A contiguous (B, H, W, C) tensor is a channels_last map seen with its axes named in memory
    order, so both permutes below are views and nothing is copied on the way in or out.
    """

    def __init__(self, channels: int, kernel_size: int):
        super().__init__(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x.permute(0, 3, 1, 2))  # (B, C, H, W), channels_last
        return x.permute(0, 2, 3, 1)
