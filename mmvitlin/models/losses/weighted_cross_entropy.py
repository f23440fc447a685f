"""Cross-entropy of pixels with a weight per class, which ignores a label."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.registry import MODELS, register

SMALLEST_SUM = 1e-6  # of weights: the loss is 0 if all pixels are ignored


@register(MODELS)
class WeightedCrossEntropyLoss(nn.Module):
    """Mean of the cross-entropy over pixels, weighted by their classes.

    It is a loss for the decode heads of mmsegmentation, whose CrossEntropyLoss fails with an
    IndexError if it has a `class_weight` and a batch has ignored pixels.

    Args:
        class_weight: C weights, in the order of the labels.
        loss_weight: factor of the loss.
        loss_name: name in the log; it must begin with 'loss' to be trained on.

    Attributes:
        class_weight: (C,).

    Raises:
        ValueError: a weight is negative, or all are 0; logits of another number of classes.
    """

    class_weight: Tensor

    def __init__(
        self,
        class_weight: Sequence[float],
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ce',
    ):
        super().__init__()
        if not class_weight or min(class_weight) < 0 or max(class_weight) == 0:
            raise ValueError(
                f'class_weight must hold a weight of at least 0 per class, and one above, got '
                f'{class_weight}'
            )
        self.loss_weight, self.loss_name = loss_weight, loss_name
        self.register_buffer('class_weight', torch.tensor(class_weight), persistent=False)

    def forward(
        self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, ignore_index: int = 255
    ) -> Tensor:
        """Compute the loss of logits (B, C, H, W).

        Args:
            logits: (B, C, H, W).
            labels: (B, H, W).
            weight: (B, H, W), further weights of the pixels.
            ignore_index: label of pixels that are ignored.

        Returns:
            A scalar.
        """
        if logits.shape[1] != len(self.class_weight):
            raise ValueError(
                f'logits have {logits.shape[1]} classes, and class_weight has '
                f'{len(self.class_weight)}: give each class a weight'
            )
        valid = labels != ignore_index
        weights = self.class_weight[labels.where(valid, 0)] * valid
        if weight is not None:
            weights = weights * weight
        losses = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction='none')
        return self.loss_weight * (losses * weights).sum() / weights.sum().clamp(min=SMALLEST_SUM)
