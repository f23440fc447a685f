"""Position embeddings: learned ones, for images of any size, and fixed sines."""

from collections.abc import MutableMapping, Sequence
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.ops.symbolic import is_fixed


class PositionEmbedding(nn.Module):
    """Learned position embedding of the patches of a grid and of prefix tokens.

    For other grids it is resized bicubically. An embedding of another length in a checkpoint is
    assumed to be of a square grid, and resized while it is loaded. One of the same length is
    assumed to be of this grid, which a checkpoint does not record.

    Args:
        grid: rows and columns of patches that the embedding is learned for.
        num_prefix_tokens: tokens before the patches, such as the class token.
    """

    def __init__(self, embed_dims: int, grid: tuple[int, int], num_prefix_tokens: int = 1):
        super().__init__()
        self.grid = grid
        self.num_prefix_tokens = num_prefix_tokens
        shape = (1, num_prefix_tokens + grid[0] * grid[1], embed_dims)
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(shape), std=0.02))

    def forward(self, grid: tuple[int, int]) -> Tensor:
        """Return the embedding for a grid, (1, num_prefix_tokens + rows * columns, C)."""
        return self._resize(self.weight, self.grid, grid)

    def fit(self, weights: MutableMapping[str, Tensor], prefix: str) -> None:
        """Resize the position embedding in a state dict, in place, if its length differs.

        Raises:
            ValueError: its grid is not square.
        """
        loaded = weights.get(f'{prefix}weight')
        if loaded is None or loaded.ndim != 3 or loaded.shape[1] == self.weight.shape[1]:
            return
        patches = loaded.shape[1] - self.num_prefix_tokens
        side = isqrt(max(patches, 0))
        if not patches or side * side != patches:
            raise ValueError(
                f'{prefix}weight has {loaded.shape[1]} positions, {patches} of them of patches '
                f'(the model has {self.num_prefix_tokens} prefix tokens): not those of a square '
                f'image, and the model has a grid of {self.grid}. Give the model the img_size that '
                'the checkpoint was trained with, and a class token if the checkpoint has one'
            )
        weights[f'{prefix}weight'] = self._resize(loaded, (side, side), self.grid)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        self.fit(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _resize(self, weight: Tensor, grid: Sequence[int], to: Sequence[int]) -> Tensor:
        # A symbolic grid, in an export or a trace, is always interpolated, even to its own size: a
        # comparison would fix it.
        if is_fixed(*to) and tuple(grid) == tuple(to):
            return weight
        prefix, patches = weight.tensor_split([self.num_prefix_tokens], dim=1)
        maps = patches.unflatten(1, tuple(grid)).permute(0, 3, 1, 2)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        maps = F.interpolate(maps.to(dtype), size=tuple(to), mode='bicubic', align_corners=False)
        return torch.cat([prefix, maps.flatten(2).transpose(1, 2).to(weight.dtype)], 1)


def sine_positions(grid: tuple[int, int], embed_dims: int, temperature: float = 10000.0) -> Tensor:
    """Compute sines and cosines of the places of a grid's patches (arXiv 2104.02057).

    A quarter of the channels each has the sine and the cosine of the row, then of the column, at
    frequencies that fall geometrically from 1 to almost 1 / `temperature`.

    Returns:
        Row by row, (rows * columns, C).

    Raises:
        ValueError: the number of channels is not a multiple of 4.
    """
    if embed_dims % 4:
        raise ValueError(f'embed_dims of sine positions must be a multiple of 4, got {embed_dims}')
    quarter = embed_dims // 4
    frequencies = temperature ** -(torch.arange(quarter) / quarter)
    row, column = torch.meshgrid(*map(torch.arange, grid), indexing='ij')
    angles = [place.flatten()[:, None] * frequencies for place in (row, column)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)
