"""Linear attention over the whole map, the global half of L2ViT (arXiv 2501.16182)."""

import torch
from torch import Tensor, nn

from mmvitlin.ops.cache_blocks import compute_in_blocks
from mmvitlin.ops.relu_linear_attention import relu_linear_attention


class LinearAttention(nn.Module):
    """Multi-head ReLU linear attention over all tokens of a map: (B, H, W, C) -> (B, H, W, C).

    Each head has a learned temperature, initially D^-0.5. Without gradients, on a CPU, the linear
    layers are called block by block of the images.
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.temperature = nn.Parameter(
            torch.full((num_heads, 1, 1), (embed_dims // num_heads) ** -0.5)
        )
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        _, H, W, C = x.shape
        return compute_in_blocks(self._attend, x, 3 * C * H * W)

    def _attend(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        qkv = self.qkv(x).view(B, H * W, 3, self.num_heads, C // self.num_heads)
        q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))  # each (B, heads, N, D)
        x = relu_linear_attention(q, k, v, self.temperature)
        return self.proj(x.transpose(1, 2).reshape(B, H, W, C))
