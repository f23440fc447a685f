"""Token expansion (ToE, arXiv 2404.00672) for any plain vision transformer, as one hook."""

import logging
from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmvitlin.engine.hooks.from_config import build_hook
from mmvitlin.engine.low_frequency_input import find_crop
from mmvitlin.engine.schedule import (
    are_fractions,
    check_numbers,
    check_steps,
    check_type,
)
from mmvitlin.engine.token_plan import (
    StagePlan,
    image_size_of,
    plan_stages,
    speed_up_bound,
    stage_shares,
)
from mmvitlin.engine.token_sequence import (
    Expansion,
    Stage,
    check_layers,
    find_backbone,
    follows,
    shorten_at,
)
from mmvitlin.errors import ConfigError
from mmvitlin.ops.token_expansion import DISTANCES, stage_at
from mmvitlin.registry import HOOKS, register


@register(HOOKS)
class TokenExpansionHook(Hook):
    """Train on a growing part of the tokens: about 1.3 times faster with the default schedule.

    From layer `layer` on, a training step sees the tokens of the current stage only: some that are
    spread evenly, those least like them, and all others merged into their nearest. Parameters,
    checkpoints and evaluation stay those of the dense model.

    The stage is a function of the epoch alone, found anew at the start of each: a resumed run is
    where it would have been. In loops by iteration an epoch is a pass over the dataset, and the
    stage is found at each iteration.

    Args:
        expansion_step: where each of the K stages begins, increasing: epochs from 0, whole numbers,
            or fractions of the training, all below 1. Before the first, training is dense.
        keep_rate: the share of patch tokens that each stage keeps, increasing to at most 1.
        initialization_keep_rate: the share that is spread evenly, at most `keep_rate[0]`.
        expansion_multiple_stage: in how many steps each stage adds its tokens.
        distance: 'cosine', 'manhattan' or 'euclidean'; cosine is what the paper trains with.
        layer: the layer whose input is shortened, from 0.
        sparse_eval: shorten in evaluation too; a test without training is at the last stage.

    Raises:
        ConfigError: arguments that contradict each other; on attaching, a backbone without a plain
            token sequence or with an output that needs every token, such as out_type='featmap'.
    """

    # Before EMAHook, so that the average, a copy, has the step as well: whoever calls it sees what
    # the model would. EMAHook itself swaps parameters instead and evaluates the original.
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        expansion_step: Sequence[float] = (0, 100, 200),
        keep_rate: Sequence[float] = (0.5, 0.75, 1.0),
        initialization_keep_rate: float = 0.25,
        expansion_multiple_stage: int = 2,
        distance: str = 'cosine',
        layer: int = 1,
        sparse_eval: bool = False,
    ):
        check_schedule(expansion_step, keep_rate)
        check_type('initialization_keep_rate', initialization_keep_rate, Real, 'a number')
        check_type('expansion_multiple_stage', expansion_multiple_stage, Integral, 'an integer')
        check_type('distance', distance, str, 'a name')
        check_type('layer', layer, Integral, 'an integer')
        if not 0 < initialization_keep_rate <= keep_rate[0]:
            raise ConfigError(
                'initialization_keep_rate must be above 0 and at most the first keep_rate, '
                f'{keep_rate[0]}, got {initialization_keep_rate}'
            )
        if expansion_multiple_stage < 1:
            raise ConfigError(
                'expansion_multiple_stage is a number of steps, at least 1, got '
                f'{expansion_multiple_stage}'
            )
        if distance not in DISTANCES:
            raise ConfigError(f'distance must be one of {", ".join(DISTANCES)}, got {distance!r}')
        self.expansion_step = tuple(expansion_step)
        self.by_fraction = are_fractions(expansion_step)
        self.expansion = Expansion(
            tuple(keep_rate), initialization_keep_rate, expansion_multiple_stage, distance
        )
        self.layer = layer
        self.sparse_eval = sparse_eval
        self.plan: list[StagePlan] = []  # of the stages 0 to K of the last model attached to
        self._plans: dict[int, list[StagePlan]] = {}  # where images grow, at each of their sides
        self._stage = Stage()

    @property
    def stage(self) -> int:
        """The current stage: 0, dense, to K."""
        return self._stage.number

    def attach(self, model: nn.Module) -> None:
        """Add the step to a model or backbone, once; a compiled one must not have run yet.

        It takes the place of another hook's.
        """
        backbone = find_backbone(model)
        self.plan = plan_stages(backbone, self.layer, self.expansion)
        self._shorten(backbone)

    def set_epoch(self, epoch: float) -> None:
        """Enter the stage of an epoch, from 0; where steps are fractions, of a part of training."""
        self._stage.number = stage_at(epoch, self.expansion_step)

    def before_run(self, runner: Runner) -> None:
        """Add the step to the model; be at the last stage until training says otherwise."""
        self._shorten(find_backbone(runner.model))
        self._stage.number = len(self.expansion_step)

    def before_train(self, runner: Runner) -> None:
        """Plan the training, now that the weights are loaded, and log it."""
        backbone = find_backbone(runner.model)
        self.plan = plan_stages(backbone, self.layer, self.expansion)
        crop = find_crop(runner.model)
        self._plans = {
            side: plan_stages(backbone, self.layer, self.expansion, (side, side))
            for side in dict.fromkeys(crop.sizes if crop else ())
        }
        length = 1 if self.by_fraction else self._num_epochs(runner)
        late = [step for step in self.expansion_step if step >= length]
        if late:
            runner.logger.log(
                logging.WARNING,
                f'Token expansion: training ends after {length:g} epochs and never reaches '
                f'expansion_step {late}; fractions below 1 go with any length',
            )
        shares = stage_shares(self.expansion_step, length)
        bound = speed_up_bound([plan.compute for plan in self.plan], shares)
        steps = ', '.join(
            f'stage {stage} of {self.describe(stage)} for {share:.0%} of the training'
            for stage, share in enumerate(shares)
            if share
        )
        height, width = image_size_of(backbone)
        runner.logger.info(
            f'Token expansion: {steps}; at most {bound:.3f}x faster than dense, at '
            f'{height} x {width}'
        )
        self._enter(runner, starting=True)

    def before_train_epoch(self, runner: Runner) -> None:
        """Enter the stage of the epoch."""
        self._enter(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Enter the stage of the iteration, in loops by iteration."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._enter(runner)

    def describe(self, stage: int) -> str:
        """The tokens and the compute of a stage, in words."""
        plan, dense = self.plan[stage], self.plan[0].num_tokens
        return f'{plan.num_tokens} of {dense} tokens ({plan.compute:.3f} of the dense compute)'

    def length_of(self, train_cfg: dict) -> float:
        """The length of a training, in the unit of `expansion_step`.

        Raises:
            ConfigError: steps are epochs, and the training is counted in iterations.
        """
        if self.by_fraction:
            return 1
        if train_cfg.get('max_epochs') is None:
            raise ConfigError(
                f'expansion_step={list(self.expansion_step)} are epochs, and train_cfg counts '
                'iterations: give fractions of the training, such as 0, 1/3, 2/3'
            )
        return train_cfg['max_epochs']

    def plan_settings(self, train_cfg: dict) -> dict:
        """The hook's part of the arguments of `plan_training`.

        Raises:
            ConfigError: steps are epochs, and the training is counted in iterations.
        """
        length = self.length_of(train_cfg)
        return dict(
            expansion_step=[step / length for step in self.expansion_step],
            expansion=self.expansion,
            layer=self.layer,
        )

    def _shorten(self, backbone: nn.Module) -> None:
        check_layers(backbone, self.layer)
        if not follows(backbone, self._stage):
            shorten_at(backbone, self.layer, self.expansion, self._stage, self.sparse_eval)

    def _enter(self, runner: Runner, starting: bool = False) -> None:
        before = self.stage, self.plan
        self.set_epoch(self._progress(runner))
        crop = find_crop(runner.model)
        if crop and crop.part:
            self.plan = self._plans[crop.size]
        if starting or (self.stage, self.plan) != before:
            by_iter = isinstance(runner.train_loop, IterBasedTrainLoop)
            now = f'iteration {runner.iter}' if by_iter else f'epoch {runner.epoch}'
            runner.logger.info(
                f'Token expansion: {now} is in stage {self.stage} of {len(self.expansion_step)}, '
                f'{self.describe(self.stage)}'
                + (f', at {crop.size} x {crop.size}' if crop and crop.part else '')
            )

    def _progress(self, runner: Runner) -> float:
        """How far training is, in the unit of `expansion_step`."""
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop):
            return loop.epoch / loop.max_epochs if self.by_fraction else loop.epoch
        return loop.iter / (loop.max_iters if self.by_fraction else _epoch_length(loop))

    def _num_epochs(self, runner: Runner) -> float:
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop):
            return loop.max_epochs
        return loop.max_iters / _epoch_length(loop)


def hook_of(cfg: Config) -> TokenExpansionHook:
    """Build the hook that a config trains with.

    Raises:
        ConfigError: there is none.
    """
    hook = build_hook(cfg, TokenExpansionHook)
    if hook is None:
        raise ConfigError(
            f'{cfg.filename} trains without token expansion; add '
            "dict(type='mmvitlin.TokenExpansionHook') to its custom_hooks"
        )
    return hook


def check_schedule(expansion_step: Sequence[float], keep_rate: Sequence[float]) -> None:
    """Check that every stage has its step and its rate, in order and in range.

    Raises:
        ConfigError: it has not.
    """
    check_numbers('expansion_step', expansion_step)
    check_numbers('keep_rate', keep_rate)
    steps, rates = list(expansion_step), list(keep_rate)
    if not steps or len(steps) != len(rates):
        raise ConfigError(
            'expansion_step and keep_rate need one entry a stage, got '
            f'{len(steps)} and {len(rates)}: {steps} and {rates}'
        )
    check_steps('expansion_step', steps)
    if not all(0 < rate <= 1 for rate in rates):
        raise ConfigError(f'every keep_rate must be above 0 and at most 1, got {rates}')
    if any(later <= earlier for earlier, later in pairwise(rates)):
        raise ConfigError(f'keep_rate must increase from stage to stage, got {rates}')


def _epoch_length(loop: IterBasedTrainLoop) -> float:
    """Iterations in a pass over the dataset."""
    loader = loop.dataloader
    samplers = loader.sampler, getattr(loader.batch_sampler, 'sampler', None)
    # Endless samplers have the length of the whole dataset, others of this process's share.
    endless = any(isinstance(sampler, InfiniteSampler) for sampler in samplers)
    return len(loader) / (get_world_size() if endless else 1)
