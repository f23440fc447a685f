"""The layer that plain vision transformers are stacked from."""

from typing import Any

from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmvitlin.layers.mlp import MLP


class TransformerLayer(nn.Module):
    """Attention, then an MLP, each behind a LayerNorm and beside a residual: (B, L, C) -> same.

    Args:
        attn: maps (B, L, C), and whatever else `forward` is given, to (B, L, C).
        skip_lam: what attention and MLP are divided by before they are added (LV-ViT's lambda).
        recompute: as in `MLP`.
    """

    def __init__(
        self,
        attn: nn.Module,
        embed_dims: int,
        feedforward_channels: int,
        drop_path_rate: float,
        norm_eps: float,
        skip_lam: float = 1.0,
        recompute: bool = True,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dims, norm_eps)
        self.mlp = MLP(embed_dims, feedforward_channels, recompute)
        self.drop_path = DropPath(drop_path_rate)
        self.skip_lam = skip_lam

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        x = x.add(self.drop_path(self.attn(self.norm1(x), *args)), alpha=1 / self.skip_lam)
        return x.add(self.drop_path(self.mlp(self.norm2(x))), alpha=1 / self.skip_lam)
