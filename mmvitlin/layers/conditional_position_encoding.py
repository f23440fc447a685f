"""Conditional position encoding, CPE (arXiv 2102.10882)."""

from torch import Tensor, nn

from mmvitlin.layers.depthwise_conv import DepthwiseConv


class ConditionalPositionEncoding(nn.Module):
    """Residual depthwise 3 x 3 convolution: (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, embed_dims: int):
        super().__init__()
        self.conv = DepthwiseConv(embed_dims, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)
