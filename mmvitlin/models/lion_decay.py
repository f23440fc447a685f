"""Decay of a LION on given images: scans, decay masks and gates (arXiv 2502.16249).

For a notebook, the mask around the patch in row 3 and column 4, averaged over the heads of the last
layer, as a map of the patches:

    scans = read_scans(lion, images)
    masks = patch_masks(scans.layers[-1], scans.grid, [(3, 4)])
    masks['along rows'][0, -rows * columns:].view(rows, columns)
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmvitlin.errors import ConfigError
from mmvitlin.layers.lion_attention import LIONAttention
from mmvitlin.models.backbones.lion import LION
from mmvitlin.ops.decayed_attention import Scan, decay_mask

Grid = tuple[int, int]  # rows and columns of patches
SCAN_NAMES = {1: ('row by row',), 2: ('along rows', 'along columns')}  # number of scans -> names
QUANTILES = {'min': 0.0, '25%': 0.25, 'median': 0.5, '75%': 0.75, 'max': 1.0}


class Scans(NamedTuple):
    """Scans of one forward pass.

    Attributes:
        layers: per layer, name of a scan -> scan.
        grid: rows and columns of patches.
    """

    layers: list[dict[str, Scan]]
    grid: Grid


@torch.no_grad()
def read_scans(backbone: LION, images: Tensor) -> Scans:
    """Run a LION on images (B, C, H, W) and return the scans of its layers, with their gates.

    Raises:
        ConfigError: the mask type is 'Lit', which has no gates.
    """
    if not backbone.layers[0].attn.gates:
        raise ConfigError(
            "the backbone has mask_type='Lit', without decay: give a config with mask_type "
            "'Decay' or 'Selective'"
        )
    layers: list[dict[str, Scan]] = []
    grids: list[Grid] = []

    def keep_scans(attention: LIONAttention, inputs: tuple) -> None:
        scans = attention.scans(*inputs)
        layers.append(dict(zip(SCAN_NAMES[len(scans)], scans)))

    def keep_grid(embedding: nn.Module, inputs: tuple, patches: Tensor) -> None:
        grids.append((patches.shape[1], patches.shape[2]))

    handles = [layer.attn.register_forward_pre_hook(keep_scans) for layer in backbone.layers]
    handles.append(backbone.patch_embed.register_forward_hook(keep_grid))
    try:
        backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    return Scans(layers, grids[0])


def patch_masks(
    scans: dict[str, Scan],
    grid: Grid,
    patches: Sequence[tuple[int, int]],
    heads: Sequence[int] | None = None,
    num_prefix_tokens: int = 1,
) -> dict[str, Tensor]:
    """Compute the decay masks around patches of the first image, averaged over heads.

    Args:
        scans: of one layer.
        grid: rows and columns of patches.
        patches: (row, column) of each patch.
        heads: the heads to average over; None for all.
        num_prefix_tokens: tokens before the patches, such as the class token.

    Returns:
        Name of a scan -> float64 (len(patches), num_prefix_tokens + rows * columns), the factors by
        which each patch weights every token. For two scans there is also 'mean of both', since
        attention sums over scans.
    """
    rows, columns = grid
    length = num_prefix_tokens + rows * columns
    tokens = [num_prefix_tokens + row * columns + column for row, column in patches]
    masks: dict[str, Tensor] = {}
    for name, scan in scans.items():
        chosen = range(scan.log_gates.shape[1]) if heads is None else heads
        # One head at a time: the masks of all heads of a large image need gigabytes.
        of_heads = (
            decay_mask(scan._replace(log_gates=scan.log_gates[:1, [head]]), length, torch.float64)
            for head in chosen
        )
        total: Any = sum(mask[0, 0, tokens] for mask in of_heads)  # a tensor: sum adds it to 0
        masks[name] = total / len(chosen)
    if len(masks) > 1:
        masks['mean of both'] = torch.stack([*masks.values()]).mean(0)
    return masks


def gate_quantiles(scan: Scan, num_prefix_tokens: int = 1) -> Tensor:
    """Compute `QUANTILES` of the gates of each head over the patches of the first image.

    Returns:
        float64 (heads, 5), or (heads, 1) for heads with one gate for all tokens.
    """
    gates = scan.log_gates[0].double().exp()
    if gates.shape[1] == 1:
        return gates
    levels = gates.new_tensor([*QUANTILES.values()])
    return gates[:, num_prefix_tokens:].quantile(levels, dim=1).T


def half_life(gate: float) -> float:
    """Compute the number of tokens after which half of the influence remains."""
    return math.log(0.5) / math.log(gate) if 0 < gate < 1 else (math.inf if gate else 0.0)
