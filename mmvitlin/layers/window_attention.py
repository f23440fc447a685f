"""Softmax attention in local windows, the local half of L2ViT (arXiv 2501.16182)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.ops.cache_blocks import compute_in_blocks
from mmvitlin.ops.windows import pad_to_multiple, window_partition, window_unpartition


class WindowAttention(nn.Module):
    """Multi-head attention in non-overlapping windows: (B, H, W, C) -> (B, H, W, C).

    Without position bias, shift and mask: a map whose sides the window does not divide is
    zero-padded, the padding is attended to like any token, and it is cut off afterwards. Without
    gradients, on a CPU, the linear layers are called block by block of the windows.
    """

    def __init__(self, embed_dims: int, num_heads: int, window_size: int):
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        _, H, W, C = x.shape
        x = pad_to_multiple(x, self.window_size)
        windows = window_partition(x, self.window_size)  # (B * windows, N, C)
        windows = compute_in_blocks(self._attend, windows, 3 * C * self.window_size**2)
        return window_unpartition(windows, self.window_size, H, W)

    def _attend(self, windows: Tensor) -> Tensor:
        """Attend within each window, (windows, N, C)."""
        C = windows.shape[-1]
        qkv = self.qkv(windows).unflatten(-1, (3, self.num_heads, C // self.num_heads))
        q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))  # each (windows, heads, N, D)
        windows = F.scaled_dot_product_attention(q, k, v)
        return self.proj(windows.transpose(1, 2).reshape(-1, self.window_size**2, C))
