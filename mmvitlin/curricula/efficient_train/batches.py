"""Batch sizes that change between epochs, with the same number of images per optimizer step.

A batch of k times as many images is accumulated k times less often. Schedulers, averages and
gradient accumulation are rescaled, and accumulation restarts every epoch: an epoch depends on those
before it through weights and optimizer alone.
"""

from collections.abc import Sequence

from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader

from mmvitlin.compat import accumulative_counts, set_accumulative_counts, set_max_iters
from mmvitlin.curricula.model_parts import find_averages
from mmvitlin.errors import ConfigError


class BatchSchedule:
    """Batch sizes of a training, multiples of the config's, which is the smallest.

    Args:
        runner: has built its model, optimizer and loader, and has not begun.
        sizes: all batch sizes of the training.

    Raises:
        ConfigError: a size is not a multiple of the config's, or gradient accumulation or an
            average cannot be rescaled for it.
    """

    def __init__(self, runner: Runner, sizes: Sequence[int]):
        wrapper, loader = runner.optim_wrapper, runner.train_loop.dataloader
        if not isinstance(wrapper, OptimWrapper):
            raise ConfigError(
                f'batch_size goes with one optimizer, and {type(wrapper).__name__} has several'
            )
        self.size = batch_size_of(loader)
        self.epoch_length = len(loader)
        self.accumulative_counts = accumulative_counts(wrapper)
        self.averages = [(average, average.interval) for average in find_averages(runner)]
        for size in sizes:
            self._check(size)

    def _check(self, size: int) -> None:
        times, rest = divmod(size, self.size)
        if rest:
            raise ConfigError(
                f"batch_size={size} is no multiple of the train dataloader's {self.size}, which is "
                'that of the largest images'
            )
        if self.accumulative_counts % times:
            raise ConfigError(
                f'batches of {size} are {times} of {self.size}, and accumulative_counts='
                f'{self.accumulative_counts} of the optim_wrapper is no multiple of that: '
                'optimizer steps would see different numbers of images'
            )
        for _, interval in self.averages:
            if interval % times:
                raise ConfigError(
                    f'batches of {size} are {times} of {self.size}, and interval={interval} of '
                    'EMAHook, which counts batches, is no multiple of that: give it the '
                    f'accumulative_counts, {self.accumulative_counts}'
                )

    def announce(self, runner: Runner, sizes: Sequence[int]) -> None:
        """Set the number of iterations of a run whose epochs have these batch sizes.

        Raises:
            ConfigError: an epoch has no iteration.
        """
        loader = runner.train_loop.dataloader
        lengths = {}
        for size in {*sizes, self.size}:
            set_batch_size(loader, size)
            lengths[size] = len(loader)
        set_batch_size(loader, self.size)
        if not min(lengths.values()):
            raise ConfigError(
                f'batches of {max(lengths)} drop all images that a process trains on: give a '
                'smaller batch_size'
            )
        set_max_iters(runner.train_loop, sum(lengths[size] for size in sizes))
        runner.message_hub.update_info('max_iters', runner.max_iters)

    def enter(self, runner: Runner, size: int) -> None:
        """Train the epoch, or the rest of one that is resumed, on batches of a size."""
        times, loader = size // self.size, runner.train_loop.dataloader
        done = getattr(runner.train_loop, 'position', 0)  # of our ResumableEpochLoop
        set_batch_size(loader, size)
        counts = self.accumulative_counts // times
        set_accumulative_counts(runner.optim_wrapper, counts, len(loader), done)
        for average, interval in self.averages:
            average.interval = interval // times

    def step_schedulers(self, runner: Runner, batch_idx: int) -> None:
        """Step schedulers by iteration extra times, so that they follow images, not iterations.

        At the end of an epoch they have made the same number of steps as with the config's batches.
        """
        length = len(runner.train_loop.dataloader)
        before, after = (done * self.epoch_length // length for done in (batch_idx, batch_idx + 1))
        schedulers = runner.param_schedulers or []
        groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
        for scheduler in (scheduler for group in groups for scheduler in group):
            if not scheduler.by_epoch:
                for _ in range(after - before - 1):  # MMEngine makes one
                    scheduler.step()


def batch_size_of(loader: DataLoader) -> int:
    """Return the number of images in a batch.

    Raises:
        ConfigError: the batch sampler is not torch's, so that its size may be fixed.
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
    loader.batch_sampler.batch_size = size  # DataLoader reads this one, not its own
