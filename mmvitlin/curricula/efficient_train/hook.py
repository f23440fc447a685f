"""EfficientTrain (arXiv 2211.09703): a curriculum of image sizes and augmentation."""

from collections.abc import Sequence
from numbers import Integral

from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmvitlin.compat import stop_persistent_workers
from mmvitlin.curricula.efficient_train.augmentation import (
    check_augments,
    rand_augments,
    set_magnitude,
)
from mmvitlin.curricula.efficient_train.batches import BatchSchedule
from mmvitlin.curricula.efficient_train.input_crop import InputCrop, attach_crop
from mmvitlin.curricula.hook import CurriculumHook
from mmvitlin.curricula.model_parts import unwrap
from mmvitlin.curricula.plan import Size
from mmvitlin.curricula.schedule import Schedule, check_numbers, check_type
from mmvitlin.errors import ConfigError
from mmvitlin.registry import HOOKS, register


@register(HOOKS)
class EfficientTrainHook(CurriculumHook):
    """Train on few low frequencies and weak augmentation first: about 1.5 times faster.

    At each stage batches are cropped in frequency to the stage's image size, on the model's device,
    before mixup and CutMix; RandAugment has the stage's magnitude. Weights, checkpoints and
    evaluation are those of a training without the hook.

    With `batch_size`, stages of small images take larger batches and accumulate fewer of them, so
    that optimizer steps see as many images as before. Schedulers by iteration, which MMEngine makes
    by `convert_to_iter_based`, then step by images, so that they are at the same position after
    every epoch as with the config's own batches. Averages are updated at optimizer steps. Gradients
    are not accumulated across epochs: each ends with an optimizer step.

    Args:
        input_size: side of the images at each stage, at most that of the train pipeline's.
        magnitude_level: magnitude of every RandAugment of the train pipeline at each stage; None
            leaves them unchanged.
        batch_size: images per batch and process at each stage, multiples of the config's, which is
            that of the largest images; None leaves it unchanged.
        stage_step: beginnings of the stages, increasing from 0: epochs, integers, or fractions of
            the training, all below 1. None for equal stages.

    Raises:
        ConfigError: arguments that contradict each other; when training begins, a model, pipeline
            or loader that a stage cannot work with, and a loop by iteration.
    """

    # Before token expansion, whose tokens depend on the image size, and before EMAHook checks
    # `begin_iter` against the number of iterations, which `batch_size` changes.
    priority = 'HIGH'
    label = 'EfficientTrain'

    def __init__(
        self,
        input_size: Sequence[int] = (160, 160, 160, 192, 224),
        magnitude_level: Sequence[float] | None = (1, 3, 5, 7, 9),
        batch_size: Sequence[int] | None = None,
        stage_step: Sequence[float] | None = None,
    ):
        _check_integers('input_size', input_size)
        num_stages = len(input_size)
        if stage_step is None:
            stage_step = [stage / num_stages for stage in range(num_stages)]
        super().__init__(Schedule('stage_step', stage_step))
        if stage_step[0] != 0:
            raise ConfigError(f'stage_step must begin at 0, got {list(stage_step)}')
        if magnitude_level is not None:
            check_numbers('magnitude_level', magnitude_level)
            if any(level < 0 for level in magnitude_level):
                raise ConfigError(f'magnitude_level must be 0 or more, got {list(magnitude_level)}')
        if batch_size is not None:
            _check_integers('batch_size', batch_size)
        for name, values in (
            ('magnitude_level', magnitude_level),
            ('batch_size', batch_size),
            ('stage_step', stage_step),
        ):
            if values is not None and len(values) != num_stages:
                raise ConfigError(
                    f'input_size and {name} need one entry per stage, got {num_stages} and '
                    f'{len(values)}: {list(input_size)} and {list(values)}'
                )
        self.input_size = tuple(input_size)
        self.magnitude_level = magnitude_level and tuple(magnitude_level)
        self.batch_size = batch_size and tuple(batch_size)
        self._batches: BatchSchedule | None = None

    @property
    def image_size(self) -> Size | None:
        """(H, W) of the training images at the current stage; None before the first epoch."""
        return (self.input_size[self.stage - 1],) * 2 if self.stage else None

    def before_train(self, runner: Runner) -> None:
        """Check that every stage can work; plan and log the training."""
        loop = runner.train_loop
        max_epochs = loop.max_epochs if isinstance(loop, EpochBasedTrainLoop) else None
        self.plan_settings(max_epochs)  # refuses None
        if self.magnitude_level:
            check_augments(rand_augments(loop.dataloader.dataset), self.magnitude_level)
        if self.batch_size:
            self._batches = BatchSchedule(runner, self.batch_size)
            assert max_epochs is not None  # which `plan_settings` refuses
            stages = [self.schedule.stage_at(epoch, max_epochs) for epoch in range(max_epochs)]
            self._batches.announce(runner, [self.batch_size[stage - 1] for stage in stages])
        super().before_train(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the stage of the epoch."""
        super().before_train_epoch(runner)
        if self._batches:
            assert self.batch_size is not None  # from which `before_train` made the batches
            self._batches.enter(runner, self.batch_size[self.stage - 1])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Step schedulers by iteration so that they follow images, where batches differ."""
        if self._batches:
            self._batches.step_schedulers(runner, batch_idx)

    def plan_settings(self, max_epochs: float | None) -> dict:
        """Return the hook's arguments of `plan_training`."""
        if max_epochs is None:
            raise ConfigError(
                'EfficientTrain goes by epoch, and train_cfg counts iterations: give '
                'train_cfg=dict(by_epoch=True, max_epochs=...)'
            )
        return dict(
            image_sizes=[(side, side) for side in self.input_size],
            size_step=self.schedule.fractions(max_epochs),
        )

    def describe(self, stage: int, size: Size | None = None) -> str:
        """Describe images, augmentation and batches of a stage."""
        side = self.input_size[stage - 1]
        words = [f'images of {side} x {side}']
        if self.magnitude_level:
            words.append(f'RandAugment at {self.magnitude_level[stage - 1]:g}')
        if self.batch_size:
            words.append(f'batches of {self.batch_size[stage - 1]}')
        return ', '.join(words)

    def _attach(self, model: nn.Module) -> tuple[nn.Module, InputCrop]:
        crop = attach_crop(model, self.input_size)
        return unwrap(model), crop

    def _enter(self, runner: Runner) -> None:
        super()._enter(runner)
        if self.magnitude_level:
            level, loader = self.magnitude_level[self.stage - 1], runner.train_loop.dataloader
            augments = rand_augments(loader.dataset)
            changed = [augment for augment in augments if augment.magnitude_level != level]
            for augment in changed:
                set_magnitude(augment, level)
            if changed:
                # Workers have a copy of the dataset.
                stop_persistent_workers(loader)


def _check_integers(name: str, values: Sequence[int]) -> None:
    check_type(name, values, Sequence, 'a sequence of integers')
    for value in values:
        check_type(name, value, Integral, 'a sequence of integers')
    if not values or min(values) < 1:
        raise ConfigError(f'{name} needs integers of at least 1, one per stage, got {list(values)}')
