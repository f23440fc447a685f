"""The two-layer perceptron of every transformer block."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.layers.gradient_checkpointing import checkpoint_if_long
from mmvitlin.ops.cache_blocks import compute_in_blocks, uses_blocks


class MLP(nn.Module):
    """Linear, GELU, linear over the last dimension: (..., C) -> (..., C).

    Without gradients, on a CPU, both linear layers are called block by block of the tokens.

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
        if uses_blocks(x):
            hidden_dims = self.fc1.out_features
            tokens = compute_in_blocks(self._compute, x.flatten(0, -2), hidden_dims)
            return tokens.view(x.shape)
        return self._compute(x)

    def _compute(self, x: Tensor) -> Tensor:
        if self.checkpoint_long:
            return checkpoint_if_long(self._project, self.fc1(x))
        return self._project(self.fc1(x))

    def _project(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(x))
