"""Base of the hooks that train in stages."""

import logging
from abc import abstractmethod
from math import ceil
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmvitlin.curricula.efficient_train.input_crop import InputCrop
from mmvitlin.curricula.model_parts import find_averages, find_backbone
from mmvitlin.curricula.plan import Size, StageCost, TrainingPlan, count_stages, plan_training
from mmvitlin.curricula.schedule import Schedule, progress_of
from mmvitlin.curricula.token_expansion.token_reduction import TokenReduction
from mmvitlin.engine.cost import build_on_meta
from mmvitlin.errors import ConfigError
from mmvitlin.registry import HOOKS, SCOPE

PAPER_EPOCHS = 300  # of both papers


class CurriculumHook(Hook):
    """Base of the hooks that train in stages.

    The stage depends on the epoch only and is computed at the start of each epoch, so that a
    resumed run is in the right stage. In loops by iteration an epoch is a pass over the dataset,
    and the stage is computed at each iteration.

    Deep copies of a model do not follow the stage, so a run attaches to the averages of its model
    as well. The curricula of a run share one plan.

    Attributes:
        label: the name of the curriculum in the log.
        stage: the current stage.
        plan: plan of the run; None before the run, and if compute cannot be counted.
    """

    label: str

    def __init__(self, schedule: Schedule):
        self.schedule = schedule
        self.stage = 0
        self.plan: TrainingPlan | None = None
        self._logged: str | None = None  # the last stage in the log
        self._attached: dict[nn.Module, TokenReduction | InputCrop] = {}  # by module

    @property
    def image_size(self) -> Size | None:
        """(H, W) of the training images at the current stage; None if they do not change."""
        return None

    def attach(self, model: nn.Module) -> list[StageCost] | None:
        """Attach the curriculum to a model, replacing another hook's.

        A deep copy made later does not follow the hook: attach to it as well.

        Returns:
            The cost of one image at each stage; None where the hook does not count it.
        """
        self._follow(model)
        return None

    def set_epoch(self, epoch: float, max_epochs: float = PAPER_EPOCHS) -> None:
        """Enter the stage of an epoch, from 0, in every model attached to.

        Args:
            epoch: from 0.
            max_epochs: length of the training, for stages that begin at fractions of it.
        """
        self._set_stage(self.schedule.stage_at(epoch, max_epochs))

    def before_run(self, runner: Runner) -> None:
        """Attach to the model."""
        self.plan = None
        self._follow(runner.model)

    def before_train(self, runner: Runner) -> None:
        """Attach to averages, plan the run unless another hook has, and enter the first stage."""
        for average in find_averages(runner):
            self._follow(average)
        self._warn_of_missed_stages(runner)
        if self.plan is None:
            _plan_run(runner)
        self._logged = None
        self._enter(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the stage of the epoch."""
        self._enter(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Enter the stage of the iteration, in loops by iteration."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._enter(runner)

    @abstractmethod
    def plan_settings(self, max_epochs: float | None) -> dict:
        """Return the hook's arguments of `plan_training`.

        Args:
            max_epochs: length of the training; None where it is counted in iterations.

        Raises:
            ConfigError: the curriculum goes by epoch, and the training is counted in iterations.
        """

    @abstractmethod
    def describe(self, stage: int, size: Size | None = None) -> str:
        """Describe a stage in the log, at an image size that another curriculum sets, if any."""

    @abstractmethod
    def _attach(self, model: nn.Module) -> tuple[nn.Module, TokenReduction | InputCrop]:
        """Attach to a module of a model; return both, the latter with a `stage`."""

    def _follow(self, model: nn.Module) -> None:
        module, attached = self._attach(model)
        attached.stage = self.stage
        self._attached[module] = attached

    def _set_stage(self, stage: int) -> None:
        self.stage = stage
        for attached in self._attached.values():
            attached.stage = stage

    def _warn_of_missed_stages(self, runner: Runner) -> None:
        _, length = progress_of(runner, self.schedule.by_fraction)
        entered = {self.schedule.stage_at(epoch, length) for epoch in range(ceil(length))}
        for stage, step in enumerate(self.schedule.steps, 1):
            if stage not in entered:
                message = (
                    f'{self.label}: this training is too short for stage {stage} of '
                    f'{len(self.schedule.steps)}, where {self.schedule.name} is {step:g}'
                )
                runner.logger.log(logging.WARNING, message)

    def _enter(self, runner: Runner) -> None:
        self.set_epoch(*progress_of(runner, self.schedule.by_fraction))
        name = self.label.lower().replace(' ', '_')
        runner.message_hub.update_scalar(f'train/{name}_stage', self.stage)
        sizes = [hook.image_size for hook in curricula_of(runner) if hook.image_size]
        described = self.describe(self.stage, *sizes[:1])
        now = f'in stage {self.stage} of {len(self.schedule.steps)}, {described}'
        if now != self._logged:
            self._logged = now
            by_iter = isinstance(runner.train_loop, IterBasedTrainLoop)
            where = f'iteration {runner.iter}' if by_iter else f'epoch {runner.epoch}'
            runner.logger.info(f'{self.label}: {where} is {now}')


def curricula_of(runner: Runner) -> list[CurriculumHook]:
    """Return the curricula of a run."""
    return [hook for hook in runner.hooks if isinstance(hook, CurriculumHook)]


def build_hooks(cfg: Config, kind: type[CurriculumHook] = CurriculumHook) -> list[CurriculumHook]:
    """Build the curricula among the `custom_hooks` of a config.

    Raises:
        ConfigError: there are none of this kind.
    """
    kinds = {name: hook for name, hook in HOOKS.module_dict.items() if issubclass(hook, kind)}
    types = {*kinds.values(), *kinds, *(f'{SCOPE}.{name}' for name in kinds)}
    hooks = [
        # 'priority' is an argument of the runner.
        HOOKS.build({key: settings[key] for key in settings if key != 'priority'})
        for settings in cfg.get('custom_hooks') or []
        if settings['type'] in types
    ]
    if not hooks:
        examples = ' or '.join(f"dict(type='{SCOPE}.{name}')" for name in kinds)
        raise ConfigError(
            f'{cfg.filename} trains without a curriculum; add {examples} to its custom_hooks'
        )
    return hooks


def plan_config(cfg: Config) -> TrainingPlan:
    """Plan the training of a config.

    Raises:
        ConfigError: the config has no curriculum, or one that its backbone cannot be trained with.
    """
    settings: dict[str, Any] = {}
    for hook in build_hooks(cfg):
        settings |= hook.plan_settings(cfg.train_cfg.get('max_epochs'))
    return plan_training(find_backbone(build_on_meta(cfg)), **settings)


def _plan_run(runner: Runner) -> None:
    """Plan a run, log the plan, and set it on all of its curricula."""
    hooks, backbone = curricula_of(runner), find_backbone(runner.model)
    settings: dict[str, Any] = {}
    for hook in hooks:
        _, max_epochs = progress_of(runner, hook.schedule.by_fraction)
        settings |= hook.plan_settings(max_epochs)
    if 'expansion' not in settings:
        largest = max(settings['image_sizes'])
        try:
            count_stages(backbone, image_size=largest)
        except ConfigError as error:  # training will show whether it runs
            runner.logger.log(logging.WARNING, f'The compute of the training is not known: {error}')
            return
    plan = plan_training(backbone, **settings)
    runner.logger.info(f'Plan of the training: {plan}')
    for hook in hooks:
        hook.plan = plan
