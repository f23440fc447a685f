"""The loss of token labeling, with a target for every token (arXiv 2104.10858)."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Weights of the teacher's class target, against the ground truth: for images where both name the
# same class, and for others. The original's numbers.
TEACHER_WEIGHT_IF_AGREED, TEACHER_WEIGHT_IF_NOT = 0.5, 0.9


def token_label_loss(
    class_logits: Tensor,
    token_logits: Tensor,
    targets: Tensor,
    lam: float | Tensor = 0.0,
    ground_truth: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute the cross entropies of the class token and of the patches with soft targets.

    Half precision is computed in float32.

    Args:
        class_logits: (B, C), of images that MixToken may have mixed with the reversed batch.
        token_logits: (B, N, C), swapped back to the image that each patch shows.
        targets: (B, C, 1 + 1 + N): the ground truth, the target of the class token, the targets of
            the patches; (B, C, 2) for a single patch. `token_label_targets` returns them.
        lam: fraction of each image replaced by MixToken.
        ground_truth: mix the class token's target with the ground truth first.

    Returns:
        The mean over images, and the mean over all patches of all images.
    """
    truth, class_target = targets[..., 0], targets[..., 1]
    if ground_truth:
        agreed = truth.argmax(1, keepdim=True) == class_target.argmax(1, keepdim=True)
        weight = torch.where(agreed, TEACHER_WEIGHT_IF_AGREED, TEACHER_WEIGHT_IF_NOT).to(truth)
        class_target = torch.lerp(truth, class_target, weight)
    class_target = class_target + lam * (class_target.flip(0) - class_target)
    dtype = torch.promote_types(class_logits.dtype, torch.float32)
    token_targets = targets[..., -token_logits.shape[1] :]
    return (
        F.cross_entropy(class_logits.to(dtype), class_target.to(dtype)),
        F.cross_entropy(token_logits.to(dtype).transpose(1, 2), token_targets.to(dtype)),
    )
