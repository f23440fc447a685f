"""Training loops that resume within an epoch and without loading old batches again."""

from collections.abc import Iterable, Iterator
from itertools import count, islice
from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader, Sampler

from mmvitlin.engine.seeded import SeededSampler
from mmvitlin.registry import LOOPS, register


def sampler_of(loader: DataLoader) -> Sampler | Iterable:
    """Return the sampler of a loader, also inside a batch sampler."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def with_batches(loader: DataLoader, batches: Iterable[list]) -> DataLoader:
    """Return a copy of a loader with other batches, given as lists of indices, for one pass."""
    return DataLoader(
        loader.dataset,
        batch_sampler=batches,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
    )


@register(LOOPS)
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's EpochBasedTrainLoop, same arguments; an epoch can be resumed after any batch.

    Args:
        runner, dataloader: as in MMEngine, which documents the others.

    Attributes:
        position: batches of the running epoch that have been trained on. SafeCheckpointHook saves
            and restores it.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any):
        super().__init__(runner, dataloader, *args, **kwargs)
        self.position = 0
        # Without it, starting workers draws a number from the generator that dropout uses.
        self.dataloader.generator = torch.Generator()

    def run_epoch(self) -> None:
        """Train an epoch, or the rest of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        sampler = sampler_of(self.dataloader)
        if isinstance(sampler, SeededSampler):
            sampler.epoch = self._epoch
        loader, done = self.dataloader, self.position
        if done:
            loader = with_batches(loader, list(loader.batch_sampler)[done:])
        for index, batch in enumerate(loader, done):
            self.position = index + 1
            self.run_iter(index, batch)
        self.position = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@register(LOOPS)
class ResumableIterLoop(IterBasedTrainLoop):
    """MMEngine's IterBasedTrainLoop, same arguments; resuming loads no batch twice.

    Args:
        runner, dataloader: as in MMEngine, which documents the others.
    """

    dataloader: DataLoader

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any):
        loader: DataLoader
        if isinstance(dataloader, dict):
            loader = runner.build_dataloader(
                dataloader,
                seed=runner.seed,
                diff_rank_seed=runner.cfg.get('randomness', {}).get('diff_rank_seed', False),
            )
        else:
            loader = dataloader
        # MMEngine starts the loader's workers here, before a checkpoint gives the position.
        super().__init__(runner, _Unstarted(loader), *args, **kwargs)
        self.dataloader = loader
        self.dataloader.generator = torch.Generator()
        self.dataloader_iterator = _Stream(self)


class _Unstarted:
    """Loader with the dataset of another one and no batches."""

    def __init__(self, loader: DataLoader):
        self.dataset = loader.dataset

    def __iter__(self) -> Iterator:
        return iter(())


class _Stream:
    """Endless iterator over batches, from the current iteration of a loop.

    MMEngine's loop first requests and drops the batches that it has been trained on; for those the
    stream returns None.
    """

    def __init__(self, loop: ResumableIterLoop):
        self.loop = loop
        self.batches: Iterator | None = None
        self.skipped = 0

    def __next__(self) -> Any:
        if self.skipped < self.loop.iter and self.batches is None:
            self.skipped += 1
            return None
        if self.batches is None:
            loader = self.loop.dataloader
            rest = islice(_endless(loader), self.loop.iter, None)
            self.batches = iter(with_batches(loader, rest))
        return next(self.batches)


def _endless(loader: DataLoader) -> Iterator[list]:
    """Repeat the batches of a loader, as indices, epoch after epoch."""
    for epoch in count():
        sampler = sampler_of(loader)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)
        assert loader.batch_sampler is not None  # MMEngine's loaders have one
        yield from loader.batch_sampler
