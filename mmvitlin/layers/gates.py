"""How far a token's influence reaches: the gates of LION's decay (arXiv 2502.16249)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConstantGate(nn.Module):
    """One learned gate a head, sigmoid(logit), which starts at a standard normal logit.

    Forward: tokens (B, L, C) -> logarithms (1, heads, 1).
    """

    def __init__(self, embed_dims: int, num_heads: int):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(num_heads))

    def forward(self, x: Tensor) -> Tensor:
        return _log_sigmoid(self.logits).view(1, -1, 1)


class SelectiveGate(nn.Linear):
    """A gate a token and head, 1 - sigmoid(W x + b); the class token, which comes first, has 1.

    Forward: tokens (B, L, C) -> logarithms (B, heads, L).

    Args:
        num_prefix_tokens: tokens before the patches: 0 where there is no class token.
    """

    def __init__(self, embed_dims: int, num_heads: int, num_prefix_tokens: int = 1):
        super().__init__(embed_dims, num_heads)
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, x: Tensor) -> Tensor:
        log_gates = _log_sigmoid(-super().forward(x[:, self.num_prefix_tokens :]))
        return F.pad(log_gates.transpose(1, 2), (self.num_prefix_tokens, 0))


def _log_sigmoid(x: Tensor) -> Tensor:
    """In float32 at least: sums over hundreds of gates follow."""
    return F.logsigmoid(x.to(torch.promote_types(x.dtype, torch.float32)))
