"""Accuracy on a data set that has some of the classes of a classifier."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmvitlin.errors import ConfigError
from mmvitlin.registry import METRICS, register


@register(METRICS)
class SubsetAccuracy(BaseMetric):
    """Percentage of images whose class has the best score among the classes of the data set.

    ImageNet-A and ImageNet-R have 200 of ImageNet-1k's classes, and the scores of the other 800 do
    not count.

    Args:
        classes: the classifier's index of each class of the data set.
        topk: values of k; the top-k accuracy counts images whose class is among the k best.
        collect_device, prefix: as in MMEngine's metrics.

    Raises:
        ConfigError: the classifier has fewer classes, or the label of an image is out of range.
    """

    default_prefix = 'accuracy'

    def __init__(
        self,
        classes: Sequence[int],
        topk: Sequence[int] = (1,),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.classes, self.topk = torch.tensor(list(classes)), tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the rank of each image's class among the classes of the data set, from 0."""
        for sample in data_samples:
            scores, label = torch.as_tensor(sample['pred_score']).cpu(), int(sample['gt_label'])
            if int(self.classes.max()) >= len(scores) or label >= len(self.classes):
                raise ConfigError(
                    f'{type(self).__name__} has {len(self.classes)} classes up to '
                    f'{int(self.classes.max())}, got label {label} and {len(scores)} scores: give '
                    'classes the index in the classifier of each class of the data set'
                )
            scores = scores[self.classes]
            self.results.append(int((scores > scores[label]).sum()))

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Compute the accuracy of all images for each k."""
        return {
            f'top{k}': 100 * sum(rank < k for rank in results) / max(len(results), 1)
            for k in self.topk
        }
