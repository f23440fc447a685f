"""Samples whose augmentation depends only on the seed, the epoch and the position in the epoch.

It does not depend on the number of loader workers or on the batches loaded before, so that a
resumed training sees the same samples as one without a stop.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from mmvitlin.registry import DATA_SAMPLERS, DATASETS, register


class Draw(NamedTuple):
    """Index of a sample, and the key that seeds its augmentation."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    key: tuple[int, ...]


@register(DATA_SAMPLERS)
class SeededSampler(Sampler):
    """Sampler that adds a key to each index of another sampler.

    Args:
        dataset: the SeededDataset to sample from.
        sampler: config of the other sampler.
        seed: seed of the other sampler and of the keys; None draws one for all processes.
    """

    def __init__(self, dataset: 'SeededDataset', sampler: dict, seed: int | None = None):
        self.dataset = dataset
        self.epoch = 0
        self._seed = sync_random_seed() if seed is None else seed
        self.sampler = DATA_SAMPLERS.build(
            sampler, default_args=dict(dataset=dataset.dataset, seed=self._seed)
        )

    @property
    def seed(self) -> int:
        """Seed of the order and of the keys."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = self.sampler.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, of the next iteration's order and keys."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        """Iterate over draws."""
        rank, _ = get_dist_info()
        for position, index in enumerate(self.sampler):
            yield Draw(index, (self._seed, self.epoch, rank, position))

    def __len__(self) -> int:
        """Count the samples of this process in an epoch."""
        return len(self.sampler)


@register(DATASETS)
class SeededDataset(Dataset):
    """Wrapper of a dataset that seeds the random generators for each sample.

    Args:
        dataset: config of the other dataset, or the dataset.
    """

    def __init__(self, dataset: dict | Dataset):
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    @property
    def metainfo(self) -> dict:
        """Metainfo of the other dataset, such as its classes."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Read the annotations, if the other dataset reads them late."""
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()

    def get_data_info(self, draw: Draw | int) -> dict:
        """Return the annotations of a sample; batch samplers ask for its size."""
        return self.dataset.get_data_info(_index_of(draw))

    def __getitem__(self, draw: Draw | int) -> Any:
        """Load a sample, and restore the generators of this process afterwards."""
        if not isinstance(draw, Draw):
            return self.dataset[draw]
        with _seeded(draw.key):
            return self.dataset[draw.index]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.dataset)


def _index_of(draw: Draw | int) -> int:
    return draw.index if isinstance(draw, Draw) else draw


@contextmanager
def _seeded(key: tuple[int, ...]) -> Iterator[None]:
    """Seed the generators of Python, numpy and torch's CPU by a key, and restore them after."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    torch.default_generator.manual_seed(int(words[3]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
