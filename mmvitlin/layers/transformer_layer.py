"""The pre-norm layer of plain vision transformers."""

from typing import Any

from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmvitlin.layers.mlp import MLP


class TransformerLayer(nn.Module):
    """Residual attention and residual MLP, each after a LayerNorm: (B, L, C) -> (B, L, C).

    Args:
        attn: maps (B, L, C), and further arguments of `forward`, to (B, L, C).
        skip_lam: divides the outputs of attention and MLP before they are added (LV-ViT's lambda).
        checkpoint_long: as in `MLP`.
    """

    def __init__(
        self,
        attn: nn.Module,
        embed_dims: int,
        feedforward_channels: int,
        drop_path_rate: float,
        norm_eps: float,
        skip_lam: float = 1.0,
        checkpoint_long: bool = True,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims, norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(embed_dims, norm_eps)
        self.mlp = MLP(embed_dims, feedforward_channels, checkpoint_long)
        self.drop_path = DropPath(drop_path_rate)
        self.skip_lam = skip_lam

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        x = x.add(self.drop_path(self.attn(self.norm1(x), *args)), alpha=1 / self.skip_lam)
        return x.add(self.drop_path(self.mlp(self.norm2(x))), alpha=1 / self.skip_lam)
