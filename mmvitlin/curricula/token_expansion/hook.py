"""Token expansion (ToE, arXiv 2404.00672) for any plain vision transformer."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real

from mmengine.runner import Runner
from torch import nn

from mmvitlin.curricula.hook import CurriculumHook
from mmvitlin.curricula.model_parts import find_backbone
from mmvitlin.curricula.plan import Size, StageCost, count_stages
from mmvitlin.curricula.schedule import Schedule, check_numbers, check_type
from mmvitlin.curricula.token_expansion.token_reduction import (
    Expansion,
    TokenReduction,
    attach_reduction,
)
from mmvitlin.errors import ConfigError
from mmvitlin.ops.token_expansion import DISTANCES
from mmvitlin.registry import HOOKS, register


@register(HOOKS)
class TokenExpansionHook(CurriculumHook):
    """Train on a growing part of the tokens: about 1.3 times faster with the default schedule.

    From layer `layer` on, a training step sees the tokens of the current stage only: some at even
    spacing, those least similar to them, and all others merged into the most similar one.
    Parameters, checkpoints and evaluation are those of the dense model.

    Args:
        expansion_step: beginnings of the K stages, increasing: epochs from 0, integers, or
            fractions of the training, all below 1. Training is dense before the first.
        keep_rate: fraction of patch tokens that each stage keeps, increasing to at most 1.
        initialization_keep_rate: fraction that is kept at even spacing, at most `keep_rate[0]`.
        expansion_multiple_stage: the number of steps in which each stage adds its tokens.
        distance: a key of `mmvitlin.ops.token_expansion.DISTANCES`; the paper trains with cosine.
        layer: the layer whose input is reduced, from 0.
        sparse_eval: reduce in evaluation too; a test without training is at the last stage.

    Raises:
        ConfigError: arguments that contradict each other; on attaching, a backbone without a plain
            token sequence or with an output that needs every token, such as out_type='featmap'.
    """

    priority = 'ABOVE_NORMAL'
    label = 'Token expansion'

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
        super().__init__(Schedule('expansion_step', expansion_step))
        check_rates(keep_rate, len(expansion_step))
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
        self.expansion = Expansion(
            tuple(keep_rate), initialization_keep_rate, expansion_multiple_stage, distance, layer
        )
        self.sparse_eval = sparse_eval

    def attach(self, model: nn.Module) -> list[StageCost]:
        """Attach token expansion to a model or backbone, replacing another hook's.

        A deep copy made later does not follow the hook: attach to it as well. A compiled model must
        not have run yet.

        Returns:
            The cost of one image at each stage, from 0, all tokens, to K.
        """
        costs = count_stages(find_backbone(model), self.expansion)
        self._follow(model)
        return costs

    def before_run(self, runner: Runner) -> None:
        """Attach to the model, at the last stage until a training sets another."""
        super().before_run(runner)
        self._set_stage(len(self.schedule.steps))

    def plan_settings(self, max_epochs: float | None) -> dict:
        """Return the hook's arguments of `plan_training`."""
        return dict(expansion=self.expansion, expansion_step=self.schedule.fractions(max_epochs))

    def describe(self, stage: int, size: Size | None = None) -> str:
        """Describe tokens and compute of a stage in a run, at an image size."""
        size = size or next(iter(self.plan.costs))
        dense, cost = self.plan.costs[size][0], self.plan.costs[size][stage]
        compute = cost.multiply_adds / dense.multiply_adds
        return (
            f'{cost.num_tokens} of {dense.num_tokens} tokens ({compute:.3f} of the dense compute), '
            f'at {size[0]} x {size[1]}'
        )

    def _attach(self, model: nn.Module) -> tuple[nn.Module, TokenReduction]:
        backbone = find_backbone(model)
        return backbone, attach_reduction(backbone, self.expansion, self.sparse_eval)


def check_rates(keep_rate: Sequence[float], num_stages: int) -> None:
    """Check that every stage has a rate, in order and in range.

    Raises:
        ConfigError: it has not.
    """
    check_numbers('keep_rate', keep_rate)
    rates = list(keep_rate)
    if len(rates) != num_stages:
        raise ConfigError(
            f'expansion_step and keep_rate need one entry per stage, got {num_stages} and '
            f'{len(rates)}: keep_rate={rates}'
        )
    if not all(0 < rate <= 1 for rate in rates):
        raise ConfigError(f'every keep_rate must be above 0 and at most 1, got {rates}')
    if any(later <= earlier for earlier, later in pairwise(rates)):
        raise ConfigError(f'keep_rate must increase from stage to stage, got {rates}')
