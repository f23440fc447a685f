"""The loss of token labeling (arXiv 2104.10858): every token has a target, not the class alone."""

import torch
import torch.nn.functional as F
from torch import Tensor

# How much a teacher's class target counts where the ground truth corrects it, by whether both name
# the same class: the original's numbers.
TRUST_IF_AGREED, TRUST_IF_NOT = 0.5, 0.9


def token_label_loss(
    class_logits: Tensor,
    token_logits: Tensor,
    targets: Tensor,
    lam: float | Tensor = 0.0,
    ground_truth: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cross entropies of the class token and of the patches against soft targets.

    Half precision is computed in float32.

    Args:
        class_logits: (B, C), of images that hold a share of those of the batch in reverse order.
        token_logits: (B, N, C), each of the image that it shows.
        targets: (B, C, 1 + 1 + N): the ground truth, the target of the class token, those of the
            patches; as `token_label_targets` gives them, (B, C, 2) for a single patch.
        lam: by how much the class token's target is that of the batch in reverse order.
        ground_truth: correct the class token's target by the ground truth first.

    Returns:
        The mean over images, and that over all patches of all images.
    """
    truth, class_target = targets[..., 0], targets[..., 1]
    if ground_truth:
        agreed = truth.argmax(1, keepdim=True) == class_target.argmax(1, keepdim=True)
        trust = torch.where(agreed, TRUST_IF_AGREED, TRUST_IF_NOT).to(truth)
        class_target = torch.lerp(truth, class_target, trust)
    class_target = class_target + lam * (class_target.flip(0) - class_target)
    dtype = torch.promote_types(class_logits.dtype, torch.float32)
    token_targets = targets[..., -token_logits.shape[1] :]
    return (
        F.cross_entropy(class_logits.to(dtype), class_target.to(dtype)),
        F.cross_entropy(token_logits.to(dtype).transpose(1, 2), token_targets.to(dtype)),
    )
