"""Choice of tokens on given images, for figures and notebooks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmvitlin.curricula.model_parts import find_backbone, prefix_tokens_of
from mmvitlin.curricula.token_expansion.token_reduction import Expansion, check_layers
from mmvitlin.ops.token_expansion import select_tokens


@torch.inference_mode()
def patch_tokens(model: nn.Module, layer: int, images: Sequence[Tensor]) -> list[Tensor]:
    """Return the patch tokens (1, N, C) at the input of a layer, for each image (1, C, H, W)."""
    backbone = find_backbone(model)
    prefix = prefix_tokens_of(backbone)
    found: list[Tensor] = []
    handle = check_layers(backbone, layer)[layer].register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0][:, prefix:])
    )
    try:
        for image in images:
            backbone(image)
    finally:
        handle.remove()
    return found


def select_stages(patches: Tensor, expansion: Expansion) -> dict[int, tuple[Tensor, Tensor]]:
    """Choose among patch tokens (1, N, C) at every stage that reduces them.

    Returns:
        Stage -> the positions (K,) of the kept tokens, and for each token the slot among those that
        it is merged into, (N,).
    """
    selections = {}
    for stage in range(1, len(expansion.keep_rate) + 1):
        selected = select_tokens(patches, stage, *expansion.settings)
        if selected is not None:
            kept, slots = selected
            selections[stage] = kept[0], slots[0]
    return selections


def patch_size_of(backbone: nn.Module) -> tuple[int, int]:
    """Return height and width of a patch in pixels."""
    patch_embed: Any = backbone.patch_embed
    size = getattr(patch_embed, 'patch_size', None)  # a backbone of this package, or of timm
    if size is None:
        return patch_embed.projection.stride
    return (size, size) if isinstance(size, int) else tuple(size)
