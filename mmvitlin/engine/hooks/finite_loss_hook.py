"""Hook that ends a training whose loss or weights are not finite."""

import logging
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmvitlin.errors import ConfigError
from mmvitlin.registry import HOOKS, register

SCALED_STEPS = 16  # a dynamic loss scale of 2^16 is 1 after 16 halvings
NAMES = 8  # images that an error names


@register(HOOKS)
class FiniteLossHook(Hook):
    """End the training when the loss is NaN or infinite, before a checkpoint is overwritten.

    Args:
        max_steps: number of non-finite losses in a row that ends the training. None means 1, or 16
            with a dynamic loss scale, which recovers from overflows.

    Raises:
        ConfigError: in training, `max_steps` losses in a row were not finite; on saving, a weight
            is not finite, and nothing is saved.
    """

    priority = 'HIGH'

    def __init__(self, max_steps: int | None = None):
        if max_steps is not None and (not isinstance(max_steps, int) or max_steps < 1):
            raise ConfigError(f'max_steps must be an integer of at least 1, got {max_steps!r}')
        self.max_steps = max_steps
        self.in_a_row = 0
        self._boxes_said = False

    def before_train(self, runner: Runner) -> None:
        """Choose `max_steps` if the config does not give it."""
        if self.max_steps is None:
            scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
            self.max_steps = SCALED_STEPS if scaler is not None and scaler.is_enabled() else 1

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Warn of the first batch with boxes without area."""
        if self._boxes_said:
            return
        flat = _images_with_flat_boxes(data_batch)
        if flat:
            self._boxes_said = True
            print_log(
                f'iteration {runner.iter + 1} trains on boxes without area, in {_listed(flat)}: '
                'they can make the loss NaN; remove them, or add '
                "dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1)) to the train pipeline",
                'current',
                logging.WARNING,
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Count losses that are not finite."""
        losses = {key: _number(value) for key, value in (outputs or {}).items() if 'loss' in key}
        bad = [f'{key} is {value}' for key, value in losses.items() if not isfinite(value)]
        self.in_a_row = self.in_a_row + 1 if bad else 0
        assert self.max_steps is not None  # since `before_train`
        if self.in_a_row < self.max_steps or not bad:
            return
        flat = _images_with_flat_boxes(data_batch)
        raise ConfigError(
            f'iteration {runner.iter + 1}: {", ".join(bad)}'
            + (f', {self.in_a_row} times in a row' if self.in_a_row > 1 else '')
            + f'; the batch is {_listed(_images(data_batch))}'
            + (f'; boxes without area are in {_listed(flat)}' if flat else '')
            + '. The last checkpoint is from before: lower the learning rate, clip gradients, or '
            'look at these images, and go on by --resume'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse to save weights that are not finite."""
        names = {name.removeprefix('module.') for name, _ in runner.model.named_parameters()}
        for name, weight in checkpoint['state_dict'].items():
            if name in names and not torch.isfinite(weight).all():
                raise ConfigError(
                    f'after iteration {runner.iter + 1} the weight {name} is not finite: nothing '
                    'was saved over the last checkpoint; lower the learning rate or clip '
                    'gradients, and go on by --resume'
                )


def _number(value: torch.Tensor | float) -> float:
    return value.detach().sum().item() if isinstance(value, torch.Tensor) else float(value)


def _samples(batch: Any) -> Sequence:
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    return samples if isinstance(samples, (list, tuple)) else ()


def _name(sample: Any, index: int) -> str:
    for key in ('img_path', 'sample_idx', 'img_id'):
        value = getattr(sample, 'metainfo', {}).get(key)
        if value is not None:
            return str(value) if key == 'img_path' else f'sample {value}'
    return f'image {index + 1} of the batch'


def _images(batch: Any) -> list[str]:
    return [_name(sample, index) for index, sample in enumerate(_samples(batch))]


def _images_with_flat_boxes(batch: Any) -> list[str]:
    return list(_find_flat_boxes(batch))


def _find_flat_boxes(batch: Any) -> Iterator[str]:
    for index, sample in enumerate(_samples(batch)):
        boxes = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
        boxes = getattr(boxes, 'tensor', boxes)  # mmdet's HorizontalBoxes
        if boxes is None or boxes.shape[-1] != 4 or not len(boxes):
            continue
        if (boxes[:, 2:] <= boxes[:, :2]).any():
            yield _name(sample, index)


def _listed(names: list[str]) -> str:
    more = f' and {len(names) - NAMES} more' if len(names) > NAMES else ''
    return ', '.join(names[:NAMES]) + more if names else 'without names'
