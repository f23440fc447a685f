"""Checks of arguments that many classes share; each returns its argument."""

from collections.abc import Collection
from numbers import Real
from typing import TypeVar

T = TypeVar('T')


def positive_int(name: str, value: object, least: int = 1) -> int:
    """Return `value`, or raise ValueError unless it is an integer of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f'{name} must be an integer of at least {least}, got {value!r}')
    return value


def one_of(name: str, value: T, choices: Collection[T]) -> T:
    """Return `value`, or raise ValueError unless it is one of `choices`."""
    if value not in choices:
        raise ValueError(f'{name} must be one of {list(choices)}, got {value!r}')
    return value


def in_range(name: str, value: float, least: float, below: float) -> float:
    """Return `value`, or raise ValueError unless it is a number in [least, below)."""
    if not isinstance(value, Real) or not least <= value < below:
        raise ValueError(f'{name} must be in [{least}, {below}), got {value}')
    return value
