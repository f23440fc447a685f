"""Moving average of the weights over optimizer steps, evaluated beside the raw model."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner, ValLoop
from torch import nn

from mmvitlin.compat import accumulative_counts, is_resuming
from mmvitlin.errors import ConfigError
from mmvitlin.registry import HOOKS, MODELS, register

RAW, AVERAGE = 'raw', 'average'
MODELS_TO_EVALUATE = ((RAW,), (AVERAGE,), (AVERAGE, RAW), (RAW, AVERAGE))
LARGE_REST = 0.1  # of the initial weights in the average at the end of a training


@register(MODELS)
class WeightAverage(ExponentialMovingAverage):
    """A moving average of a model's weights and buffers that starts from the initial ones.

    Every call of `update_parameters` averages. Integers, such as BatchNorm's counters, are copied.

    Args:
        model: the model, of which the average is a deep copy.
        momentum: share of the current weights in each update.
        warmup: the share falls from 0.9, as 9 / (10 + updates), until it is `momentum`.
    """

    def __init__(self, model: nn.Module, momentum: float = 1e-4, warmup: bool = False):
        super().__init__(model, momentum=momentum, update_buffers=True)
        self.interval = 0  # every call updates, however many batches make a step
        self.warmup = warmup

    @torch.no_grad()
    def start_from(self, model: nn.Module) -> None:
        """Copy the weights and buffers of a model."""
        current = model.state_dict()
        for name, average in self.module.state_dict().items():
            average.copy_(current[name])

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the average."""
        current, steps = model.state_dict(), int(self.steps)
        for name, average in self.module.state_dict().items():
            if average.dtype.is_floating_point:
                self.avg_func(average, current[name].to(average.device), steps)
            else:
                average.copy_(current[name])
        self.steps += 1

    def avg_func(
        self, averaged_param: torch.Tensor, source_param: torch.Tensor, steps: int
    ) -> None:
        """Move an average towards a weight, after `steps` updates, in place."""
        momentum = max(self.momentum, 9 / (10 + steps)) if self.warmup else self.momentum
        averaged_param.lerp_(source_param, momentum)


@register(HOOKS)
class AverageHook(EMAHook):
    """Average the weights after every optimizer step, as timm does, and evaluate raw or average.

    Unlike MMEngine's EMAHook, it counts optimizer steps instead of batches, includes the last step,
    starts from the initial weights, or those of `load_from`, and can evaluate the raw model, the
    average, or both at each validation. Buffers are averaged as well.

    The metrics of the model that `evaluate` names first have their usual names, `accuracy/top1`,
    and checkpoints hold its weights in `state_dict`. The metrics of the other model have its name
    as prefix, `raw/accuracy/top1`. With `save_best=['accuracy/top1', 'raw/accuracy/top1']` the
    checkpoint hook keeps the best of both, each with its own weights in `state_dict`. All
    checkpoints hold the other model's weights in `ema_state_dict`, to resume from.

    When training begins, a warning is logged if the average is evaluated and will contain more than
    a tenth of the initial weights at the end.

    Args:
        momentum: share of the current weights in each update: 1 minus timm's decay.
        evaluate: one or both of 'raw' and 'average'.
        warmup: see `WeightAverage`.
        strict_load: a checkpoint to resume from must hold every weight of the average.

    Raises:
        ConfigError: `evaluate` or `momentum` is not as described; when training begins, several
            optimizers, and a validation loop of another kind than MMEngine's.
    """

    def __init__(
        self,
        momentum: float = 1e-4,
        evaluate: Sequence[str] = (AVERAGE,),
        warmup: bool = False,
        strict_load: bool = False,
    ):
        if isinstance(evaluate, str) or tuple(evaluate) not in MODELS_TO_EVALUATE:
            raise ConfigError(
                f"evaluate takes a list of 'raw', 'average' or both, got {evaluate!r}"
            )
        if not 0 < momentum < 1:
            raise ConfigError(f'momentum must be between 0 and 1, got {momentum!r}')
        super().__init__(
            ema_type='mmvitlin.WeightAverage',
            strict_load=strict_load,
            momentum=momentum,
            warmup=warmup,
        )
        self.momentum, self.warmup = momentum, warmup
        self.first, self.second = (*evaluate, None)[:2]
        self._best: dict[str, str] = {}  # the best checkpoints, by the message hub's keys

    def before_train(self, runner: Runner) -> None:
        """Check the run, start from the initial weights, and warn of a slow average."""
        super().before_train(runner)
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise ConfigError('AverageHook goes with one optimizer, and this training has several')
        if self.second and runner.val_loop is not None and not isinstance(runner.val_loop, ValLoop):
            raise ConfigError(
                f'AverageHook evaluates two models in a ValLoop, got '
                f'{type(runner.val_loop).__name__}: let evaluate name one model'
            )
        if not int(self.ema_model.steps):
            self.ema_model.start_from(self.src_model)
        self._best = self._best_checkpoints(runner)
        steps = _optimizer_steps(runner)
        rest = (1 - self.momentum) ** steps
        if AVERAGE in (self.first, self.second) and not self.warmup and rest > LARGE_REST:
            runner.logger.log(
                logging.WARNING,
                f'AverageHook: after the {steps} optimizer steps of this training, '
                f'momentum={self.momentum:g} leaves {rest:.0%} of the initial weights in the '
                'average, which is evaluated. Give the hook warmup=True, a larger momentum, or '
                "evaluate=['raw']",
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Update the average if this iteration ended with an optimizer step."""
        if runner.optim_wrapper.should_update():
            self.ema_model.update_parameters(self.src_model)

    def before_val_epoch(self, runner: Runner) -> None:
        """Let the model have the weights that are evaluated first."""
        if self.first == AVERAGE:
            super().before_val_epoch(runner)  # swaps the raw weights and the average

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Evaluate the other model if `evaluate` has both; restore the model's own weights."""
        if self.second and metrics is not None:
            super().after_val_epoch(runner)  # swaps
            others = self._evaluate(runner)
            super().after_val_epoch(runner)
            for name, value in others.items():
                metrics[f'{self.second}/{name}'] = value
                runner.message_hub.update_scalar(f'val/{self.second}/{name}', value)
        if self.first == AVERAGE:
            super().after_val_epoch(runner)

    def before_test_epoch(self, runner: Runner) -> None:
        """Let the model have the weights that are evaluated first."""
        if self.first == AVERAGE:
            super().before_test_epoch(runner)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Restore the model's own weights."""
        if self.first == AVERAGE:
            super().after_test_epoch(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save both models, and in `state_dict` the one that this checkpoint is for."""
        saved = self.first
        best = self._best_checkpoints(runner)
        for key, path in best.items():
            if self._best.get(key) != path and Path(path).name.startswith(f'best_{self.second}_'):
                saved = self.second
        self._best = best
        if saved == AVERAGE:
            super().before_save_checkpoint(runner, checkpoint)
        else:
            checkpoint['ema_state_dict'] = self.ema_model.state_dict()
        checkpoint['meta']['state_dict'] = saved

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Resume the average, from checkpoints of either model."""
        saved = checkpoint.get('meta', {}).get('state_dict', AVERAGE)
        if saved == RAW and is_resuming(runner) and 'ema_state_dict' in checkpoint:
            self.ema_model.load_state_dict(checkpoint['ema_state_dict'], strict=self.strict_load)
        else:
            super().after_load_checkpoint(runner, checkpoint)

    def _evaluate(self, runner: Runner) -> dict[str, float]:
        """Evaluate the model with the weights that it has, by the validation loop's iterations."""
        loop = runner.val_loop
        for index, batch in enumerate(loop.dataloader):
            loop.run_iter(index, batch)
        return loop.evaluator.evaluate(len(loop.dataloader.dataset))

    @staticmethod
    def _best_checkpoints(runner: Runner) -> dict[str, str]:
        """Return the paths of the best checkpoints, noted by the hook before it saves them."""
        notes = runner.message_hub.runtime_info
        return {key: notes[key] for key in notes if key.startswith('best_ckpt') and notes[key]}


def _optimizer_steps(runner: Runner) -> int:
    """Count the optimizer steps of the training, by the batches of the config."""
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        iterations = loop.max_epochs * len(loop.dataloader)
    else:
        iterations = loop.max_iters
    return iterations // accumulative_counts(runner.optim_wrapper)
