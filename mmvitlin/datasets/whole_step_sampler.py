"""Epochs of whole optimizer steps."""

import logging
from collections.abc import Iterator, Sized
from itertools import islice

from mmengine.logging import print_log
from torch.utils.data import Sampler

from mmvitlin.registry import DATA_SAMPLERS, register


@register(DATA_SAMPLERS)
class WholeStepSampler(Sampler):
    """Sampler that drops the images at the end of an epoch which do not fill an optimizer step.

    With gradient accumulation, `drop_last` alone leaves batches that do not fill a step.

    Args:
        dataset: to sample from.
        sampler: the other sampler's settings, for example `dict(type='DefaultSampler')`.
        step_size: images in an optimizer step of one process: batch size times accumulative counts.
            Where there are fewer, an epoch takes all, and a log line says so.
        seed: seed of the other sampler.
    """

    def __init__(self, dataset: Sized, sampler: dict, step_size: int, seed: int | None = None):
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        self.step_size = step_size
        if len(self.sampler) < step_size:
            print_log(
                f'A process has {len(self.sampler)} images, fewer than '
                f'train_dataloader.sampler.step_size={step_size}: epochs take all of them',
                logger='current',
                level=logging.WARNING,
            )
            self.step_size = 1

    @property
    def seed(self) -> int | None:
        """Seed of the other sampler, which a resumed run sets."""
        return self.sampler.seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self.sampler.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Tell the other sampler which epoch begins."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler) // self.step_size * self.step_size

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.sampler), len(self))
