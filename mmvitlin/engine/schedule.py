"""Schedules by epoch: steps that count epochs, or fractions of a training of any length."""

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from numbers import Real

from mmvitlin.errors import ConfigError


def check_type(name: str, value: object, kind: type, description: str) -> None:
    """Check the type of an argument, or of an item of it; True and False are no numbers.

    Raises:
        ConfigError: it is of another.
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


def check_steps(name: str, steps: Sequence[float]) -> None:
    """Check that steps increase, and that they are all epochs or all fractions of the training.

    Raises:
        ConfigError: they are not.
    """
    steps = list(steps)
    if steps[0] < 0 or any(later <= earlier for earlier, later in pairwise(steps)):
        raise ConfigError(f'{name} must increase from 0 or more, got {steps}')
    if max(steps) >= 1 and any(step != int(step) for step in steps):
        raise ConfigError(
            f'{name} takes epochs, which are whole numbers, or fractions of the training, '
            f'which are all below 1, got {steps}'
        )


def are_fractions(steps: Sequence[float]) -> bool:
    """Whether steps are fractions of the training; 0 alone counts epochs."""
    return 0 < max(steps) < 1
