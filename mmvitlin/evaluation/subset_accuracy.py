"""Accuracy on a data set that has some of the classes of a classifier."""

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from mmvitlin.errors import ConfigError
from mmvitlin.registry import METRICS, register


@register(METRICS)
class SubsetAccuracy(BaseMetric):
    """The share of images whose class is chosen among those of the data set, in percent.

    ImageNet-A and ImageNet-R have 200 of ImageNet-1k's classes, and the scores of the other 800 do
    not count.

    Args:
        classes: index in the classifier of each class of the data set.
        topk: numbers of first choices among which the class is looked for.
        collect_device, prefix: as MMEngine's metrics have them.

    Raises:
        ConfigError: the classifier has fewer classes, or an image another label.
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
        """Keep for each image how many classes of the data set have a higher score than its own."""
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
