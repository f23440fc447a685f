"""Accuracy by the reassessed labels of ImageNet's validation images (arXiv 2006.07159)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric

from mmvitlin.errors import ConfigError
from mmvitlin.registry import METRICS, register


@register(METRICS)
class ReaLAccuracy(BaseMetric):
    """Percentage of images whose best class is one of their reassessed labels.

    Images that have none are not counted. Instead of or beside mmpretrain's Accuracy:

        test_evaluator = [
            dict(type='Accuracy', topk=(1, 5)),
            dict(type='mmvitlin.ReaLAccuracy', labels='data/imagenet/real.json')]

    Args:
        labels: the authors' file real.json: a list of labels per validation image, in the order of
            their numbers.
        collect_device, prefix: as in MMEngine's metrics.

    Raises:
        ConfigError: the file does not exist or has other content, or the name of an image has no
            number in range.
    """

    default_prefix = 'real'

    def __init__(self, labels: str, collect_device: str = 'cpu', prefix: str | None = None):
        super().__init__(collect_device=collect_device, prefix=prefix)
        try:
            self.labels = json.loads(Path(labels).expanduser().read_text())
        except (OSError, ValueError) as error:
            message = f'{labels} cannot be read: {error}; give the path of real.json'
            raise ConfigError(message) from error
        if not isinstance(self.labels, list) or not all(
            isinstance(entry, list) for entry in self.labels
        ):
            raise ConfigError(
                f'{labels} is not a list of lists of labels: give the path of real.json'
            )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store for each image with labels whether its best class is among them."""
        for sample in data_samples:
            labels = self._labels_of(str(sample['img_path']))
            if labels:
                choice = int(torch.as_tensor(sample['pred_score']).argmax())
                self.results.append(choice in labels)

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Compute the accuracy of all images that have labels."""
        return dict(top1=100 * sum(results) / max(len(results), 1))

    def _labels_of(self, path: str) -> list[int]:
        number = re.search(r'_val_(\d+)\.\w+$', path)
        if number is None or not 1 <= int(number[1]) <= len(self.labels):
            raise ConfigError(
                f'{path} is not named as ImageNet names its validation images, '
                f'ILSVRC2012_val_00000001.JPEG to {len(self.labels):08d}'
            )
        return self.labels[int(number[1]) - 1]
