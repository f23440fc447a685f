"""EfficientTrain (arXiv 2211.09703): a curriculum of image sizes and augmentation, as one hook."""

import logging
from collections.abc import Sequence
from numbers import Integral

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmvitlin.engine.batch_schedule import BatchSchedule
from mmvitlin.engine.low_frequency_input import LowFrequencyInput, crop_input_of
from mmvitlin.engine.schedule import (
    are_fractions,
    check_numbers,
    check_steps,
    check_type,
)
from mmvitlin.engine.token_plan import plan_dense
from mmvitlin.engine.token_sequence import find_backbone
from mmvitlin.engine.train_loader import rand_augments, replace_workers, set_magnitude
from mmvitlin.engine.training_plan import Phase, compute_ratio, plan_training
from mmvitlin.errors import ConfigError
from mmvitlin.ops.token_expansion import stage_at
from mmvitlin.registry import HOOKS, register

PAPER_EPOCHS = 300  # in which set_epoch finds the parts where there is no run to ask


@register(HOOKS)
class EfficientTrainHook(Hook):
    """Train on few low frequencies and weak augmentation first: about 1.5 times faster.

    The training has parts. In each, batches are cropped in frequency to the part's image size, on
    the model's device, before mixup and CutMix; RandAugment has the part's magnitude. Weights,
    checkpoints and evaluation are those of a training without it.

    The part is a function of the epoch alone, found anew at the start of each: a resumed run is
    where it would have been.

    With `batch_size`, parts of small images take larger batches and accumulate fewer of them, so
    that optimiser steps see as many images as before. Schedulers by iteration, which MMEngine makes
    by `convert_to_iter_based`, then go on by images instead, and are at the end of every epoch
    where the config's own batches would have brought them; averages go on by optimiser steps.
    Gradients are not accumulated across epochs: each ends with an optimiser step.

    Args:
        input_size: side of the images in each part, at most that of the train pipeline's.
        magnitude_level: of every RandAugment of the train pipeline in each part; None leaves them.
        batch_size: images in each part's batches of a process, multiples of the config's, which is
            that of the largest images; None leaves it.
        part_step: where each part begins, increasing from 0: epochs, whole numbers, or fractions of
            the training, all below 1. None for equal parts.

    Raises:
        ConfigError: arguments that contradict each other; when training begins, a model, pipeline
            or loader that a part cannot work with, and a loop by iteration.
    """

    # Before token expansion, whose tokens go by the size of the images, and before EMAHook.
    priority = 'HIGH'

    def __init__(
        self,
        input_size: Sequence[int] = (160, 160, 160, 192, 224),
        magnitude_level: Sequence[float] | None = (1, 3, 5, 7, 9),
        batch_size: Sequence[int] | None = None,
        part_step: Sequence[float] | None = None,
    ):
        _check_integers('input_size', input_size)
        self.num_parts = len(input_size)
        if part_step is None:
            part_step = [part / self.num_parts for part in range(self.num_parts)]
        check_numbers('part_step', part_step)
        if magnitude_level is not None:
            check_numbers('magnitude_level', magnitude_level)
            if any(level < 0 for level in magnitude_level):
                raise ConfigError(f'magnitude_level must be 0 or more, got {list(magnitude_level)}')
        if batch_size is not None:
            _check_integers('batch_size', batch_size)
        for name, values in (
            ('magnitude_level', magnitude_level),
            ('batch_size', batch_size),
            ('part_step', part_step),
        ):
            if values is not None and len(values) != self.num_parts:
                raise ConfigError(
                    f'input_size and {name} need one entry a part, got {self.num_parts} and '
                    f'{len(values)}: {list(input_size)} and {list(values)}'
                )
        check_steps('part_step', part_step)
        if part_step[0] != 0:
            raise ConfigError(f'part_step must begin at 0, got {list(part_step)}')
        self.input_size = tuple(input_size)
        self.magnitude_level = magnitude_level and tuple(magnitude_level)
        self.batch_size = batch_size and tuple(batch_size)
        self.part_step = tuple(part_step)
        self.by_fraction = are_fractions(part_step)
        self.plan: list[Phase] = []  # of the training, with token expansion where there is some
        self._crop = LowFrequencyInput(self.input_size)
        self._batches: BatchSchedule | None = None

    @property
    def part(self) -> int:
        """The current part, from 1; 0 before training."""
        return self._crop.part

    def attach(self, model: nn.Module) -> None:
        """Crop what a model's data preprocessor hands on for training.

        It takes the place of another hook's.
        """
        crop_input_of(model, self._crop)

    def part_at(self, epoch: int, max_epochs: int = PAPER_EPOCHS) -> int:
        """The part, from 1, of an epoch, from 0, in a training of `max_epochs`."""
        return stage_at(epoch / max_epochs if self.by_fraction else epoch, self.part_step)

    def set_epoch(self, epoch: int, max_epochs: int = PAPER_EPOCHS) -> None:
        """Enter the part of an epoch, from 0, in a training of `max_epochs`.

        Images follow, in every model attached to; augmentation and batches, a runner's, in a run.
        """
        self._crop.part = self.part_at(epoch, max_epochs)

    def before_run(self, runner: Runner) -> None:
        """Crop what the model trains on; averages, which are copied next, share that."""
        self.attach(runner.model)

    def before_train(self, runner: Runner) -> None:
        """Check that every part can work, plan the training, and log it."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        self.length_of(dict(max_epochs=loop.max_epochs if by_epoch else None))
        parts = [self.part_at(epoch, loop.max_epochs) for epoch in range(loop.max_epochs)]
        for part in sorted({*range(1, self.num_parts + 1)} - {*parts}):
            runner.logger.log(
                logging.WARNING,
                f'EfficientTrain: a training of {loop.max_epochs} epochs has none in part {part} '
                f'of {self.num_parts}, {self.describe(part)}',
            )
        if self.magnitude_level:
            _check_augments(rand_augments(loop.dataloader.dataset), self.magnitude_level)
        if self.batch_size:
            self._batches = BatchSchedule(runner, self.batch_size)
            self._batches.announce(runner, [self.batch_size[part - 1] for part in parts])
        self._plan_run(runner)
        self._enter(runner, starting=True)

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the part of the epoch."""
        self._enter(runner)
        if self._batches:
            self._batches.enter(runner, self.batch_size[self.part - 1])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Let schedulers by iteration go on by images, where batches differ."""
        if self._batches:
            self._batches.step_schedulers(runner, batch_idx)

    def describe(self, part: int) -> str:
        """What training sees in a part, from 1, in words."""
        side = self.input_size[part - 1]
        words = [f'images of {side} x {side}']
        if self.magnitude_level:
            words.append(f'RandAugment at {self.magnitude_level[part - 1]:g}')
        if self.batch_size:
            words.append(f'batches of {self.batch_size[part - 1]}')
        return ', '.join(words)

    def length_of(self, train_cfg: dict) -> float:
        """The length of a training, in the unit of `part_step`.

        Raises:
            ConfigError: the training is counted in iterations.
        """
        if train_cfg.get('max_epochs') is None:
            raise ConfigError(
                'EfficientTrain goes by epoch, and train_cfg counts iterations: give '
                'train_cfg=dict(by_epoch=True, max_epochs=...)'
            )
        return 1 if self.by_fraction else train_cfg['max_epochs']

    def plan_settings(self, train_cfg: dict) -> dict:
        """The hook's part of the arguments of `plan_training`.

        Raises:
            ConfigError: the training is counted in iterations.
        """
        length = self.length_of(train_cfg)
        return dict(
            image_sizes=[(side, side) for side in self.input_size],
            part_step=[step / length for step in self.part_step],
        )

    def _enter(self, runner: Runner, starting: bool = False) -> None:
        before = self.part
        self.set_epoch(runner.epoch, runner.max_epochs)
        if self.magnitude_level:
            level, loader = self.magnitude_level[self.part - 1], runner.train_loop.dataloader
            augments = rand_augments(loader.dataset)
            changed = [augment for augment in augments if augment.magnitude_level != level]
            for augment in changed:
                set_magnitude(augment, level)
            if changed:
                replace_workers(loader)
        if starting or self.part != before:
            runner.logger.info(
                f'EfficientTrain: epoch {runner.epoch} is in part {self.part} of {self.num_parts}, '
                f'{self.describe(self.part)}'
            )

    def _plan_run(self, runner: Runner) -> None:
        """Plan the training, with token expansion where it has some, and log that."""
        backbone, self.plan = find_backbone(runner.model), []
        try:
            plan_dense(backbone, (max(self.input_size),) * 2)
        except ConfigError as error:  # training will tell whether that is so
            runner.logger.log(logging.WARNING, f'EfficientTrain: the cost is not known: {error}')
            return
        settings = {}
        for hook in runner.hooks:
            if hasattr(hook, 'plan_settings'):  # this one's, and token expansion's
                settings |= hook.plan_settings(dict(max_epochs=runner.max_epochs))
        self.plan = plan_training(backbone, **settings)
        phases = '; '.join(
            f'{phase.share:.0%} of the training on images of '
            f'{phase.image_size[0]} x {phase.image_size[1]}'
            + (f' and {phase.num_tokens} tokens' if phase.num_tokens else '')
            + f' ({phase.compute:.3f} of the compute)'
            for phase in self.plan
        )
        ratio = compute_ratio(self.plan)
        runner.logger.info(
            f'EfficientTrain: {phases}; in all {ratio:.3f} of the compute, at most '
            f'{1 / ratio:.3f}x faster'
        )


def _check_integers(name: str, values: Sequence[int]) -> None:
    check_type(name, values, Sequence, 'a sequence of integers')
    for value in values:
        check_type(name, value, Integral, 'a sequence of integers')
    if not values or min(values) < 1:
        raise ConfigError(f'{name} needs integers of at least 1, one a part, got {list(values)}')


def _check_augments(augments: list, levels: Sequence[float]) -> None:
    if not augments:
        raise ConfigError(
            'the train pipeline has no RandAugment whose magnitude could follow '
            f'magnitude_level={list(levels)}: add one, or give magnitude_level=None'
        )
    for augment in augments:
        if max(levels) > augment.total_level:
            raise ConfigError(
                f'magnitude_level={list(levels)} goes beyond the total_level of '
                f'{augment.total_level} of the train pipeline'
            )
