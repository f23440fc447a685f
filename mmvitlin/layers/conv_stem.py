"""Convolutional patch embedding of LV-ViT (arXiv 2104.10858)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.ops.windows import pad_to_multiple


class ConvStem(nn.Module):
    """Four convolutions: (B, in_channels, H, W) -> patches (B, rows, columns, C).

    A 7 x 7 convolution with stride 2 and two of 3 x 3, each followed by BatchNorm and ReLU, then a
    convolution whose stride is its size. Images are zero-padded on the right and bottom up to a
    multiple of the patch.

    Args:
        patch_size: side of a patch in pixels, an even number.
        stem_channels: channels between the convolutions.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int, stem_channels: int):
        super().__init__()
        self.patch_size = patch_size
        self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_channels)
        self.conv2 = nn.Conv2d(stem_channels, stem_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem_channels)
        self.conv3 = nn.Conv2d(stem_channels, stem_channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(stem_channels)
        side = patch_size // 2  # after the stride of the first convolution
        self.proj = nn.Conv2d(stem_channels, embed_dims, kernel_size=side, stride=side)

    def forward(self, images: Tensor) -> Tensor:
        x = pad_to_multiple(images.permute(0, 2, 3, 1), self.patch_size).permute(0, 3, 1, 2)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return self.proj(x).permute(0, 2, 3, 1)
