"""Batches that change from epoch to epoch while the optimiser sees as many images a step.

A batch of k times as many images is accumulated k times less often. What counts iterations is kept
right: schedulers, averages, and the accumulation itself, which ends with each epoch, so that an
epoch depends on none before it but through weights and optimiser.
"""

from collections.abc import Sequence

from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmvitlin.engine.train_loader import batch_size_of, set_batch_size
from mmvitlin.errors import ConfigError


class BatchSchedule:
    """The batches of a training, in terms of the config's, which are the smallest.

    Args:
        runner: has built what it trains with, and has not begun.
        sizes: every number of images that a batch will have.

    Raises:
        ConfigError: a size that is no multiple of the config's, or that accumulation or an average
            cannot make up for.
    """

    def __init__(self, runner: Runner, sizes: Sequence[int]):
        wrapper, loader = runner.optim_wrapper, runner.train_loop.dataloader
        if not isinstance(wrapper, OptimWrapper):
            raise ConfigError(
                f'batch_size goes with one optimiser, and {type(wrapper).__name__} has several'
            )
        self.size = batch_size_of(loader)
        self.epoch_length = len(loader)
        self.accumulative_counts = wrapper._accumulative_counts
        averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        self.averages = [(average, average.interval) for average in averages]
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
                'optimiser steps would see different numbers of images'
            )
        for _, interval in self.averages:
            if interval % times:
                raise ConfigError(
                    f'batches of {size} are {times} of {self.size}, and interval={interval} of '
                    'EMAHook, which counts batches, is no multiple of that: give it the '
                    f'accumulative_counts, {self.accumulative_counts}'
                )

    def announce(self, runner: Runner, sizes: Sequence[int]) -> None:
        """Tell the runner how many iterations epochs of these batch sizes will have.

        Raises:
            ConfigError: epochs of one have none.
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
        runner.train_loop._max_iters = sum(lengths[size] for size in sizes)
        runner.message_hub.update_info('max_iters', runner.max_iters)

    def enter(self, runner: Runner, size: int) -> None:
        """Train an epoch on batches of a size."""
        times, loader = size // self.size, runner.train_loop.dataloader
        set_batch_size(loader, size)
        wrapper = runner.optim_wrapper
        wrapper._accumulative_counts = self.accumulative_counts // times
        # What it warns of with a model, accumulation beside BatchNorm, was said at the start.
        wrapper.initialize_count_status(nn.Identity(), 0, len(loader))
        for average, interval in self.averages:
            average.interval = interval // times

    def step_schedulers(self, runner: Runner, batch_idx: int) -> None:
        """Add the steps that the config's batches would have made to the one of every iteration.

        At the end of an epoch they are as many as the config's batches make in one.
        """
        length = len(runner.train_loop.dataloader)
        before, after = (done * self.epoch_length // length for done in (batch_idx, batch_idx + 1))
        schedulers = runner.param_schedulers or []
        groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
        for scheduler in (scheduler for group in groups for scheduler in group):
            if not scheduler.by_epoch:
                for _ in range(after - before - 1):  # one is MMEngine's own
                    scheduler.step()
