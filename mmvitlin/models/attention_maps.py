"""Effective attention of a backbone on an image: the weights of all tokens for each token.

Every attention of the package is linear in its values, softmax attention included: with unit
vectors as values, the output of every form is the matrix of weights. For LION the weights contain
the decay; for L2ViT's linear attention they contain the temperature, and their sum is below the
temperature if the denominator is at its floor.

    maps = read_attention(lion, images)
    weights = maps.layers[-1].mean(0)  # (tokens, tokens), of the last layer
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.layers.linear_attention import LinearAttention
from mmvitlin.layers.lion_attention import LIONAttention
from mmvitlin.layers.self_attention import SelfAttention
from mmvitlin.layers.window_attention import WindowAttention
from mmvitlin.ops.decayed_attention import decayed_attention
from mmvitlin.ops.relu_linear_attention import relu_linear_attention
from mmvitlin.ops.windows import pad_to_multiple, window_partition

Grid = tuple[int, int]


class AttentionMaps(NamedTuple):
    """Attention of the first image of a batch.

    Attributes:
        names: names of the attention modules, in the order in which they ran.
        layers: weights of each module, (heads, tokens, tokens), by query (rows) and key (columns).
        grids: rows and columns of the patches of each; tokens before the patches are prefix tokens.
    """

    names: list[str]
    layers: list[Tensor]
    grids: list[Grid]

    def of_patch(self, layer: int, patch: tuple[int, int]) -> Tensor:
        """Return the weights of all patches for the patch in a row and column, (rows, columns).

        They are averaged over heads. Prefix tokens are left out.

        Raises:
            ValueError: the patch is outside the grid.
        """
        (rows, columns), weights = self.grids[layer], self.layers[layer].mean(0)
        if not (0 <= patch[0] < rows and 0 <= patch[1] < columns):
            raise ValueError(f'patch must be inside {rows} rows and {columns} columns, got {patch}')
        prefix = len(weights) - rows * columns
        row = weights[prefix + patch[0] * columns + patch[1]]
        return row[prefix:].view(rows, columns)


@torch.no_grad()
def read_attention(backbone: nn.Module, images: Tensor) -> AttentionMaps:
    """Run a backbone on images (B, C, H, W) and return the attention on the first.

    Args:
        backbone: of this package, or a plain ViT of mmpretrain.
        images: normalised, at least one.

    Raises:
        ValueError: the backbone has no attention module of a known type.
    """
    found = AttentionMaps([], [], [])
    height, width = images.shape[2:]
    prefix = getattr(backbone, 'num_extra_tokens', 0)  # mmpretrain's name of prefix tokens

    def keep(name: str, weights: Callable[..., Tensor]) -> Callable:
        def hook(module: nn.Module, inputs: tuple) -> None:
            x = inputs[0][:1]
            matrix = weights(module, x, *inputs[1:])
            tokens = matrix.shape[-1]
            grid = x.shape[1:3] if x.ndim == 4 else _grid(tokens - prefix, height, width)
            found.names.append(name)
            found.layers.append(matrix[0])
            found.grids.append((grid[0], grid[1]))

        return hook

    handles = [
        module.register_forward_pre_hook(keep(name, WEIGHTS[type(module).__name__]))
        for name, module in backbone.named_modules()
        if type(module).__name__ in WEIGHTS
    ]
    if not handles:
        raise ValueError(f'{type(backbone).__name__} has no attention of {sorted(WEIGHTS)}')
    try:
        backbone(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    return found


def _grid(patches: int, height: int, width: int) -> Grid:
    """Find the grid of square patches of an image from their number."""
    for side in range(1, max(height, width) + 1):
        for rest in (side - 1, 0):  # sides that the patch does not divide are padded, or cut
            rows, columns = (height + rest) // side, (width + rest) // side
            if rows * columns == patches:
                return rows, columns
    raise ValueError(f'{patches} patches do not form a grid in an image of {height} x {width}')


def _split(qkv: Tensor, heads: int) -> Sequence[Tensor]:
    """Split (B, N, 3 C) into q, k and v of shape (B, heads, N, D)."""
    B, N, channels = qkv.shape
    return qkv.view(B, N, 3, heads, channels // 3 // heads).permute(2, 0, 3, 1, 4).unbind()


def _units(q: Tensor) -> Tensor:
    """Return unit vectors as values for queries q (B, H, N, D): (B, H, N, N)."""
    return torch.eye(q.shape[2], dtype=q.dtype, device=q.device).expand(*q.shape[:2], -1, -1)


def _softmax(module: Any, x: Tensor, *args: Any) -> Tensor:
    q, k, _ = _split(module.qkv(x), module.num_heads)
    return F.scaled_dot_product_attention(q, k, _units(q))


def _lion(module: Any, x: Tensor, orders: Sequence[Tensor | None]) -> Tensor:
    q, k, _ = _split(module.qkv(x), module.num_heads)
    q, k = module.query_features(q), module.key_features(k)
    return decayed_attention(q, k, _units(q), module.scans(x, orders), module.form)


def _linear(module: LinearAttention, x: Tensor) -> Tensor:
    q, k, _ = _split(module.qkv(x).flatten(1, 2), module.num_heads)
    return relu_linear_attention(q, k, _units(q), module.temperature)


def _windows(module: WindowAttention, x: Tensor) -> Tensor:
    """Scatter the weights of the windows into a matrix of the whole map, without the padding."""
    _, H, W, _ = x.shape
    size, tokens = module.window_size, H * W
    windows = window_partition(pad_to_multiple(x, size), size)
    q, k, _ = _split(module.qkv(windows), module.num_heads)
    weights = F.scaled_dot_product_attention(q, k, _units(q)).transpose(0, 1)
    numbers = torch.arange(1, tokens + 1, device=x.device).view(1, H, W, 1)
    places = window_partition(pad_to_multiple(numbers, size), size).squeeze(-1)  # 0 for padding
    whole = weights.new_zeros(module.num_heads, tokens + 1, tokens + 1)
    whole[:, places.unsqueeze(-1), places.unsqueeze(-2)] = weights
    return whole[None, :, 1:, 1:]


WEIGHTS: dict[str, Callable[..., Tensor]] = {
    SelfAttention.__name__: _softmax,
    'MultiheadAttention': _softmax,  # mmpretrain's, by its name: nothing is imported from a host
    LIONAttention.__name__: _lion,
    LinearAttention.__name__: _linear,
    WindowAttention.__name__: _windows,
}
