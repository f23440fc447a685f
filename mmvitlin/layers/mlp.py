"""The two-layer perceptron of every transformer block."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.layers.activation_checkpoint import recompute_if_long


class MLP(nn.Module):
    """Linear, GELU, linear over the last dimension: (..., C) -> (..., C).

    Args:
        recompute: calculate GELU of a long sequence again in the backward pass: its output is as
            large as its input, and the largest of what a layer would keep. False where whoever
            calls recomputes it anyway.
    """

    def __init__(self, embed_dims: int, hidden_dims: int, recompute: bool = True):
        super().__init__()
        self.recompute = recompute
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        if self.recompute:
            return recompute_if_long(self._project, self.fc1(x))
        return self._project(self.fc1(x))

    def _project(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(x))
