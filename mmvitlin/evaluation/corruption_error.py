"""Accuracy and mean corruption error on ImageNet-C (arXiv 1903.12261)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric

from mmvitlin.errors import ConfigError
from mmvitlin.registry import METRICS, register

# Corruption -> the error of AlexNet, mean of five severities, in percent, as the authors publish.
ALEXNET_ERRORS = {
    'gaussian_noise': 88.6428,
    'shot_noise': 89.4468,
    'impulse_noise': 92.2640,
    'defocus_blur': 81.9880,
    'glass_blur': 82.6268,
    'motion_blur': 78.5948,
    'zoom_blur': 79.8360,
    'snow': 86.6816,
    'frost': 82.6572,
    'fog': 81.9324,
    'brightness': 56.4592,
    'contrast': 85.3204,
    'elastic_transform': 64.6056,
    'pixelate': 71.7840,
    'jpeg_compression': 60.6500,
}
CORRUPTIONS = tuple(ALEXNET_ERRORS)


@register(METRICS)
class CorruptionError(BaseMetric):
    """Accuracy under each corruption, their mean, and the mean corruption error, in percent.

    The paths of images are CORRUPTION/SEVERITY/CLASS/IMAGE, as in the authors' archives. The
    corruption error is the error divided by AlexNet's. Its mean over all 15 corruptions, `mCE`, is
    left out if images of one are missing.

    Args:
        collect_device, prefix: as in MMEngine's metrics.

    Raises:
        ConfigError: an image is not in the folder of a corruption.
    """

    default_prefix = 'corruption'

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the corruption of each image, and whether its best class is right.

        Both are in one small integer, of which Python keeps one copy: ImageNet-C has 3.75 million
        images.
        """
        for sample in data_samples:
            parts = Path(str(sample['img_path'])).parts
            corruption = parts[-4] if len(parts) > 3 else ''
            if corruption not in ALEXNET_ERRORS:
                raise ConfigError(
                    f'{sample["img_path"]} is not in CORRUPTION/SEVERITY/CLASS/IMAGE, with one of '
                    f'{", ".join(CORRUPTIONS)}'
                )
            choice = int(torch.as_tensor(sample['pred_score']).argmax())
            right = choice == int(sample['gt_label'])
            self.results.append(2 * CORRUPTIONS.index(corruption) + right)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Compute the accuracies, and the mean corruption error of all corruptions."""
        counts = torch.bincount(torch.tensor(results), minlength=2 * len(CORRUPTIONS))
        accuracies = {
            name: 100 * int(right) / int(wrong + right)
            for name, (wrong, right) in zip(CORRUPTIONS, counts.reshape(-1, 2))
            if wrong + right
        }
        metrics = {'top1': sum(accuracies.values()) / len(accuracies)}
        if len(accuracies) == len(CORRUPTIONS):
            errors = [100 * (100 - accuracies[name]) / ALEXNET_ERRORS[name] for name in CORRUPTIONS]
            metrics['mCE'] = sum(errors) / len(errors)
        return metrics | {f'{name}/top1': accuracy for name, accuracy in accuracies.items()}
