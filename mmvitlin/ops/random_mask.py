"""Random masks of patches, for masked pre-training (arXiv 2111.06377)."""

import torch
from torch import Tensor


def random_mask(batch: int, num_patches: int, num_kept: int, device: torch.device) -> Tensor:
    """Draw a mask (B, N) of booleans, False at `num_kept` random patches of each image."""
    ranks = torch.rand(batch, num_patches, device=device).argsort(1).argsort(1)
    return ranks >= num_kept
