"""Teacher of token labels (arXiv 2104.10858): a classifier's best classes at each place."""

import hashlib
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmvitlin.models.teachers.dense_logits import DenseLogits


class TokenLabeller:
    """Labels batches of images by the best logits of a classifier at each place.

    The logits at each place of the final feature map are resized to `size` x `size`.

    Args:
        classifier: mmpretrain's ImageClassifier or TimmClassifier, as `DenseLogits` takes it. It is
            set to evaluation mode, and can no longer classify images itself.
        size: rows and columns of the label maps.
        topk: classes per place.
        amp: run the classifier in mixed precision.

    Raises:
        NoFeatureMapError: the classifier does not classify by one feature map.
    """

    def __init__(self, classifier: nn.Module, size: int = 18, topk: int = 5, amp: bool = False):
        self.teacher = DenseLogits(classifier)
        self.teacher.eval()
        self.size, self.topk, self.amp = size, topk, amp

    def __call__(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Return scores and classes, (B, topk, size, size) each on the CPU.

        Args:
            batch: samples as mmengine's `pseudo_collate` joins them.
        """
        logits = self.logits(batch).float()
        if logits.shape[-2:] != (self.size, self.size):
            size = (self.size, self.size)
            logits = F.interpolate(logits, size, mode='bilinear', antialias=True)
        scores, classes = logits.topk(self.topk, dim=1)
        return scores.cpu(), classes.cpu()

    @torch.no_grad()
    def logits(self, batch: dict) -> Tensor:
        """Return the logits at each place of the feature map, (B, classes, h, w)."""
        images = self.teacher.model.data_preprocessor(batch, False)['inputs']
        with torch.autocast(images.device.type) if self.amp else nullcontext():
            return self.teacher(images)

    def count_classes(self, sample: dict) -> int:
        """Count the classes of the classifier by running it on one sample."""
        return self.logits(pseudo_collate([sample])).shape[1]

    def digest_weights(self) -> str:
        """Return the SHA-256 checksum of the names and bytes of the weights."""
        digest = hashlib.sha256()
        for name, weight in self.teacher.model.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()
