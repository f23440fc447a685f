"""Schedule of a curriculum: the beginnings of its stages."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from numbers import Real

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner

from mmvitlin.errors import ConfigError


class Schedule:
    """Stages of a training. They depend on the epoch only, so that resuming needs no state.

    Args:
        name: the argument that `steps` come from, for error messages.
        steps: beginnings of the stages, increasing from 0 or more: epochs, which are integers, or
            fractions of the training, all below 1. 0 alone is an epoch.

    Raises:
        ConfigError: steps that are not such numbers, or none.
    """

    def __init__(self, name: str, steps: Sequence[float]):
        check_numbers(name, steps)
        self.name, self.steps = name, tuple(steps)
        if not steps or steps[0] < 0 or any(after <= step for step, after in pairwise(steps)):
            raise ConfigError(f'{name} must increase from 0 or more, got {list(steps)}')
        if max(steps) >= 1 and any(step != int(step) for step in steps):
            raise ConfigError(
                f'{name} takes epochs, which are whole numbers, or fractions of the training, '
                f'which are all below 1, got {list(steps)}'
            )

    @property
    def by_fraction(self) -> bool:
        """True if steps are fractions of the training."""
        return 0 < max(self.steps) < 1

    def stage_at(self, epoch: float, max_epochs: float) -> int:
        """Return the number of steps that an epoch, from 0, has reached."""
        return bisect_right(self.steps, epoch / max_epochs if self.by_fraction else epoch)

    def fractions(self, max_epochs: float | None) -> list[float]:
        """Return the beginnings of the stages in fractions of a training.

        Raises:
            ConfigError: steps are epochs, and the training is counted in iterations.
        """
        if self.by_fraction:
            return list(self.steps)
        if max_epochs is None:
            raise ConfigError(
                f'{self.name}={list(self.steps)} are epochs, and train_cfg counts '
                'iterations: give fractions of the training, such as 0, 1/3, 2/3'
            )
        return [step / max_epochs for step in self.steps]


def progress_of(runner: Runner, by_fraction: bool) -> tuple[float, float]:
    """Return the current epoch of a run, from 0, and its number of epochs.

    In a loop by iteration an epoch is a pass over the dataset; `by_fraction`, an iteration.
    """
    loop = runner.train_loop
    if not isinstance(loop, IterBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    length = 1 if by_fraction else epoch_length(loop)
    return loop.iter / length, loop.max_iters / length


def epoch_length(loop: IterBasedTrainLoop) -> float:
    """Return the number of iterations in a pass over the dataset."""
    loader = loop.dataloader
    samplers = loader.sampler, getattr(loader.batch_sampler, 'sampler', None)
    # Endless samplers have the length of the whole dataset, others that of this process's share.
    endless = any(isinstance(sampler, InfiniteSampler) for sampler in samplers)
    return len(loader) / (get_world_size() if endless else 1)


def check_type(name: str, value: object, kind: type, description: str) -> None:
    """Check the type of an argument, or of an item of it; True and False are no numbers.

    Raises:
        ConfigError: it has another type.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f'{name} must be {description}, got {value!r}')


def check_numbers(name: str, numbers: Sequence[float]) -> None:
    """Check that an argument is a sequence of finite numbers.

    Raises:
        ConfigError: it is not.
    """
    check_type(name, numbers, Sequence, 'a sequence of numbers')
    for number in numbers:
        check_type(name, number, Real, 'a sequence of numbers')
        if not isfinite(number):
            raise ConfigError(f'{name} must be finite, got {list(numbers)}')
