"""Learning rate schedule of timm's and ConvNeXt's training code: a warm-up and a cosine."""

import logging
from math import ceil, cos, pi
from numbers import Real
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper

from mmvitlin.compat import ParamScheduler, accumulative_counts
from mmvitlin.errors import ConfigError
from mmvitlin.registry import PARAM_SCHEDULERS, register


def warmup_cosine(
    time: float,
    length: float,
    warmup: float,
    lr: float,
    warmup_lr: float,
    min_lr: float,
    after_warmup: bool = False,
) -> float:
    """Compute the learning rate at a time, counted from 0: a linear warm-up, then a cosine.

    Args:
        time: in the unit of `length` and `warmup`.
        length: length of warm-up and cosine together, after which the rate is `min_lr`.
        warmup: length of the warm-up.
        lr: highest rate.
        warmup_lr: rate at time 0.
        min_lr: rate at the end of the cosine.
        after_warmup: the cosine begins at the end of the warm-up, whose last rate is `lr`, as in
            ConvNeXt's code. Otherwise the cosine runs from 0, under the warm-up, as in timm's.
    """
    if time < warmup:
        steps = max(warmup - 1, 1) if after_warmup else warmup
        return warmup_lr + time / steps * (lr - warmup_lr)
    if time >= length:
        return min_lr
    begin = warmup if after_warmup else 0
    progress = (time - begin) / (length - begin)
    return min_lr + (lr - min_lr) / 2 * (1 + cos(pi * progress))


@register(PARAM_SCHEDULERS)
class WarmupCosineLR(ParamScheduler):
    """Learning rate schedule with a warm-up and a cosine, as in the originals' training code.

    The rate depends on the position in the training only, so that a resumed run continues at the
    same rate. The length is that of the train loop and is given in `train_cfg` only. A run that is
    resumed with another length, or with other settings, follows those. Positions count the config's
    iterations; under gradient accumulation `per='step'` changes the rate with optimizer steps, and
    under EfficientTrain's batches with the images that were seen. In a config:

        param_scheduler = dict(
            type='mmvitlin.WarmupCosineLR', convert_to_iter_based=True, warmup=5, per='epoch')

    Args:
        optimizer: each of its parameter groups follows the schedule with its own highest rate.
        warmup: length of the warm-up: epochs, or iterations where `by_epoch` is False.
        warmup_lr: rate at the beginning of the warm-up.
        min_lr: rate at the end of the cosine.
        after_warmup: see `warmup_cosine`.
        per: 'epoch', the rate changes once an epoch; 'step', with every optimizer step.
        lag: number of epochs by which the schedule is delayed: 1 in DeiT's code, which computes the
            rate of an epoch from the number of the previous one.
        cooldown: length of the part after the cosine, at `min_lr`.
        by_epoch: False counts `warmup`, `cooldown` and `end` in iterations, for loops by iteration.
        end: length of the training; MMEngine gives the train loop's.
        epoch_length: iterations in an epoch; MMEngine gives the train loader's, to configs with
            `convert_to_iter_based=True`.
        param_name: the setting of parameter groups that follows the schedule.

    Raises:
        ConfigError: an argument is out of its range, or an epoch has no iteration.
    """

    def __init__(
        self,
        optimizer: OptimWrapper,
        warmup: float = 5,
        warmup_lr: float = 1e-6,
        min_lr: float = 1e-5,
        after_warmup: bool = False,
        per: str = 'step',
        lag: int = 0,
        cooldown: float = 0,
        by_epoch: bool = True,
        end: int | None = None,
        epoch_length: int | None = None,
        param_name: str = 'lr',
    ):
        settings = dict(
            warmup=warmup, warmup_lr=warmup_lr, min_lr=min_lr, lag=lag, cooldown=cooldown
        )
        for name, value in settings.items():
            if not isinstance(value, Real) or isinstance(value, bool):
                raise ConfigError(f'param_scheduler.{name} must be a number, got {value!r}')
            if value < 0:
                raise ConfigError(f'param_scheduler.{name} must be 0 or more, got {value}')
        if per not in ('epoch', 'step'):
            raise ConfigError(f"param_scheduler.per must be 'epoch' or 'step', got {per!r}")
        if not by_epoch and (per == 'epoch' or lag):
            raise ConfigError(
                "param_scheduler counts iterations (by_epoch=False): take per='step' and lag=0"
            )
        if end is None:
            raise ConfigError(
                'param_scheduler needs end, the length of the training: build it by a Runner, '
                'which takes it from train_cfg, or give it'
            )
        if by_epoch and epoch_length is None:
            raise ConfigError(
                'param_scheduler goes by epoch and needs convert_to_iter_based=True, by which '
                'MMEngine tells how long an epoch is; for a loop by iteration give by_epoch=False'
            )
        if by_epoch and not epoch_length:
            raise ConfigError(
                'the train dataloader has no batch: give a smaller train_dataloader.batch_size, '
                'or train_dataloader.drop_last=False'
            )
        if warmup + cooldown >= end:
            print_log(
                f'The training, {end} {"epochs" if by_epoch else "iterations"} long, has no part '
                f'of the cosine: param_scheduler.warmup={warmup:g} and '
                f'param_scheduler.cooldown={cooldown:g} take all of it. Give smaller ones.',
                logger='current',
                level=logging.WARNING,
            )
        self.after_warmup, self.lag = after_warmup, lag
        self.warmup_lr, self.min_lr = warmup_lr, min_lr
        self.epoch_length = epoch_length if by_epoch and epoch_length else 1
        if per == 'epoch':
            self.unit = self.epoch_length  # iterations in a unit of time
            self.warmup, self.length = warmup, end - cooldown
        else:
            accumulates = isinstance(optimizer, OptimWrapper)
            self.unit = accumulative_counts(optimizer) if accumulates else 1
            self.warmup = int(warmup * self.epoch_length) // self.unit
            self.length = ceil((end - cooldown) * self.epoch_length / self.unit)
        # To MMEngine the schedule goes by iteration, and never ends.
        super().__init__(optimizer, param_name, by_epoch=False)

    @classmethod
    def build_iter_from_epoch(cls, **settings: Any) -> 'WarmupCosineLR':
        """Build the scheduler of a config with `convert_to_iter_based=True`."""
        return cls(**settings)

    def rate_at(self, iteration: int, lr: float) -> float:
        """Compute the rate of an iteration, counted from 0, for the highest rate `lr`."""
        lagging = self.lag * self.epoch_length
        time = max(iteration - lagging, 0) // self.unit
        return warmup_cosine(
            time,
            self.length,
            self.warmup,
            lr,
            self.warmup_lr,
            self.min_lr,
            self.after_warmup,
        )

    def step(self) -> None:
        """Enter the next iteration."""
        self.last_step += 1
        self._set_rates()

    def state_dict(self) -> dict:
        """Return the position in the training, all that a resumed run needs."""
        return dict(last_step=self.last_step, epoch_length=self.epoch_length)

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from a position, converted if epochs have another length now.

        A state of MMEngine's schedulers has a position as well.
        """
        position, epoch_length = state_dict['last_step'], state_dict.get('epoch_length')
        if epoch_length is None:
            position, epoch_length = (
                state_dict['_global_step'],
                1 if state_dict['by_epoch'] else self.epoch_length,
            )
        self.last_step = round(position * self.epoch_length / epoch_length)
        self._set_rates()

    def _set_rates(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.base_values):
            group[self.param_name] = self.rate_at(self.last_step, lr)
        self._last_value = [group[self.param_name] for group in self.optimizer.param_groups]
