"""The two-layer perceptron of every transformer block."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.layers.gradient_checkpointing import checkpoint_if_long


class MLP(nn.Module):
    """Linear, GELU, linear over the last dimension: (..., C) -> (..., C).

    Args:
        checkpoint_long: checkpoint the GELU of a long sequence, whose output is the largest tensor
            that a layer would keep for the backward pass. False if the caller checkpoints the
            layer.
    """

    def __init__(self, embed_dims: int, hidden_dims: int, checkpoint_long: bool = True):
        super().__init__()
        self.checkpoint_long = checkpoint_long
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpoint_long:
            return checkpoint_if_long(self._project, self.fc1(x))
        return self._project(self.fc1(x))

    def _project(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(x))
