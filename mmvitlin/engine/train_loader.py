"""What a curriculum changes in a data loader of training: RandAugment's magnitude, the batch size.

All of it happens in place, between epochs. Worker processes have a copy of the dataset: those that
do not start anew with each epoch have to be replaced, or they go on as before.
"""

from collections.abc import Iterator

from torch.utils.data import BatchSampler, DataLoader

from mmvitlin.errors import ConfigError


def rand_augments(dataset: object) -> list:
    """Every RandAugment in the pipelines of a dataset, wrapped datasets and transforms included.

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


def _steps(transform: object) -> Iterator[object]:
    inner = getattr(transform, 'transforms', [])
    if inner and hasattr(transform, 'magnitude_level'):  # as mmpretrain's, which is never imported
        yield transform
        return
    for step in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from _steps(step)


def set_magnitude(augment: object, level: float) -> None:
    """Let a RandAugment be what it would be if it had been built with a magnitude level."""
    augment.magnitude_level = level
    for policy, transform in zip(augment.policies, augment.transforms):
        if 'magnitude_range' in policy:
            policy['magnitude_level'] = transform.magnitude_level = level


def replace_workers(loader: DataLoader) -> None:
    """Let the next epoch start workers of its own, with the dataset as it is now."""
    loader._iterator = None  # which persistent workers belong to: the last reference stops them


def batch_size_of(loader: DataLoader) -> int:
    """Images in a batch.

    Raises:
        ConfigError: the batch sampler has no one size that could change.
    """
    sampler = loader.batch_sampler
    if type(sampler) is not BatchSampler:
        raise ConfigError(
            f'batches come from {type(sampler).__name__}, whose size cannot change: batch_size '
            'takes data loaders that are given a batch_size and a sampler'
        )
    return sampler.batch_size


def set_batch_size(loader: DataLoader, size: int) -> None:
    """Set the number of images in a batch, from the next epoch on, and with it `len(loader)`."""
    loader.batch_sampler.batch_size = size  # DataLoader asks this one; its own is for reading
