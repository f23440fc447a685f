"""Base of the hooks that train in stages."""

import logging

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmvitlin.curricula.model_parts import find_averages, find_backbone
from mmvitlin.curricula.plan import Size, TrainingPlan, count_stages, plan_training
from mmvitlin.curricula.schedule import Schedule, progress_of
from mmvitlin.errors import ConfigError
from mmvitlin.registry import HOOKS, SCOPE


class CurriculumHook(Hook):
    """Base of the hooks that train in stages.

    The stage is a function of the epoch alone, computed at the start of each: a resumed run is in
    the stage that it would have been in. In loops by iteration an epoch is a pass over the dataset,
    and the stage is computed at each iteration.

    A hook attaches forward hooks to the model and, since deep copies do not follow, to its averages
    as well. Hooks of one run share one plan.

    Attributes:
        label: the name of the curriculum in the log.
        schedule: where the stages begin.
        stage: the current stage.
        plan: of the run; None before it, and where compute cannot be counted.
    """

    label: str
    schedule: Schedule
    stage = 0
    plan: TrainingPlan | None = None

    @property
    def image_size(self) -> Size | None:
        """(H, W) of the training images at the current stage; None where they do not change."""
        return None

    def attach(self, model: nn.Module) -> None:
        """Attach the curriculum to a model, replacing another hook's.

        A deep copy made later does not follow the hook: attach to it as well.
        """
        raise NotImplementedError

    def set_epoch(self, epoch: float, max_epochs: float) -> None:
        """Enter the stage of an epoch, from 0, in a training of `max_epochs`."""
        raise NotImplementedError

    def plan_settings(self, max_epochs: float | None) -> dict:
        """Return the curriculum's arguments of `plan_training`.

        Args:
            max_epochs: of the training; None where it is counted in iterations.
        """
        raise NotImplementedError

    def describe(self, runner: Runner) -> str:
        """Describe the current stage, for the log."""
        raise NotImplementedError

    def before_run(self, runner: Runner) -> None:
        """Attach to the model."""
        self.plan = None
        self._attach(runner.model)

    def before_train(self, runner: Runner) -> None:
        """Attach to averages, plan the run unless another hook did, and enter the first stage."""
        for average in find_averages(runner):
            self._attach(average)
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

    def _attach(self, model: nn.Module) -> None:
        """Attach without the checks that planning makes."""
        self.attach(model)

    def _enter(self, runner: Runner) -> None:
        self.set_epoch(*progress_of(runner, self.schedule.by_fraction))
        now = f'in stage {self.stage} of {len(self.schedule.steps)}, {self.describe(runner)}'
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
    settings = {}
    for hook in build_hooks(cfg):
        settings |= hook.plan_settings(cfg.train_cfg.get('max_epochs'))
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = MODELS.build(cfg.model)
    return plan_training(find_backbone(model), **settings)


def _plan_run(runner: Runner) -> None:
    """Plan a run, log the plan, and set it on all of its curricula."""
    hooks, backbone, settings = curricula_of(runner), find_backbone(runner.model), {}
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
