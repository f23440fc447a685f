"""Gates of LION's decay, and their logarithms (arXiv 2502.16249).

A gate is a module with logits, learned or computed from the tokens, and a function that returns
the logarithms of the gates, in float32 at least: sums over hundreds of gates follow.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConstantGate(nn.Module):
    """One learned logit per head, drawn from a standard normal distribution: (heads,)."""

    def __init__(self, num_heads: int):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(num_heads))


def constant_log_gates(gate: ConstantGate, x: Tensor, num_prefix_tokens: int) -> Tensor:
    """Logarithms of sigmoid(logits), the same for every token: (1, heads, 1)."""
    return F.logsigmoid(_widen(gate.logits)).view(1, -1, 1)


def selective_log_gates(gate: nn.Linear, x: Tensor, num_prefix_tokens: int) -> Tensor:
    """Logarithms of 1 - sigmoid(W x + b), one gate per token and head; prefix tokens have gate 1.

    Args:
        gate: maps the C channels of a token to one logit per head.
        x: tokens, (B, L, C), the prefix tokens first.
        num_prefix_tokens: tokens before the patches, such as the class token.

    Returns:
        (B, heads, L).
    """
    # Gates of the prefix tokens are computed too, since without them x would be copied.
    log_gates = F.logsigmoid(-_widen(gate(x))).transpose(1, 2)
    return F.pad(log_gates[..., num_prefix_tokens:], (num_prefix_tokens, 0))


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
