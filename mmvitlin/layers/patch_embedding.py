"""Patch embedding."""

from torch import Tensor, nn

from mmvitlin.ops.windows import pad_to_multiple


class PatchEmbedding(nn.Module):
    """A convolution with its size as stride: (B, in_channels, H, W) -> (B, rows, columns, C).

    Images are zero-padded on the right and bottom up to a multiple of the patch.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        images = pad_to_multiple(images.permute(0, 2, 3, 1), self.patch_size).permute(0, 3, 1, 2)
        return self.proj(images).permute(0, 2, 3, 1)
