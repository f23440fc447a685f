"""RandAugment in the pipelines of a training dataset, found and changed in place."""

from collections.abc import Iterator, Sequence
from typing import Any

from mmvitlin.errors import ConfigError


def rand_augments(dataset: object) -> list:
    """Find every RandAugment in the pipelines of a dataset, wrapped ones included.

    Raises:
        ConfigError: a dataset without a pipeline.
    """
    return [step for pipeline in _pipelines(dataset) for step in _steps(pipeline)]


def _pipelines(dataset: object) -> Iterator[object]:
    if hasattr(dataset, 'pipeline'):
        yield dataset.pipeline
    elif hasattr(dataset, 'datasets'):
        for part in dataset.datasets:
            yield from _pipelines(part)
    elif hasattr(dataset, 'dataset'):
        yield from _pipelines(dataset.dataset)
    else:
        raise ConfigError(f'{type(dataset).__name__} has no pipeline to look for RandAugment in')


def _steps(transform: object) -> Iterator[Any]:
    inner = getattr(transform, 'transforms', [])
    if inner and hasattr(transform, 'magnitude_level'):  # mmpretrain's, which is never imported
        yield transform
        return
    for step in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from _steps(step)


def set_magnitude(augment: Any, level: float) -> None:
    """Set RandAugment's magnitude in place."""
    augment.magnitude_level = level
    for policy, transform in zip(augment.policies, augment.transforms):
        if 'magnitude_range' in policy:
            policy['magnitude_level'] = transform.magnitude_level = level


def check_augments(augments: list, levels: Sequence[float]) -> None:
    """Check that there is a RandAugment, and that each takes every level.

    Raises:
        ConfigError: there is none, or a level is too high.
    """
    if not augments:
        raise ConfigError(
            'the train pipeline has no RandAugment whose magnitude could follow '
            f'magnitude_level={list(levels)}: add one, or give magnitude_level=None'
        )
    for augment in augments:
        if max(levels) > augment.total_level:
            raise ConfigError(
                f'magnitude_level={list(levels)} is above the total_level of {augment.total_level} '
                'in the train pipeline: give lower levels'
            )
