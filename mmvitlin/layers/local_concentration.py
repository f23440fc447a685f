"""The local concentration module of L2ViT (arXiv 2501.16182)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.layers.depthwise_conv import DepthwiseConv


class LocalConcentration(nn.Module):
    """Local aggregation after linear attention: (B, H, W, C) -> (B, H, W, C).

    Depthwise 7 x 7 convolution, GELU, BatchNorm, depthwise 7 x 7 convolution.
    """

    def __init__(self, embed_dims: int):
        super().__init__()
        self.conv1 = DepthwiseConv(embed_dims, kernel_size=7)
        self.bn = nn.BatchNorm2d(embed_dims)
        self.conv2 = DepthwiseConv(embed_dims, kernel_size=7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.conv1(x))
        x = self.bn(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.conv2(x)
