"""What a training will cost whose images, tokens, or both grow: its phases, from start to end."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mmvitlin.engine.token_plan import image_size_of, plan_dense, plan_stages
from mmvitlin.engine.token_sequence import Expansion


@dataclass(frozen=True)
class Phase:
    """A part of the training in which neither images nor tokens change.

    Attributes:
        begin, share: where it begins and how long it is, in fractions of the training.
        image_size: height and width of the images.
        stage: of token expansion, 0 with all tokens.
        num_tokens: of one image behind the layer where it is shortened, extra ones included; None
            for backbones without a plain token sequence.
        multiply_adds: of the matrix products and convolutions in a forward pass of one image.
        compute: `multiply_adds` over those of all tokens of the largest images.
    """

    begin: float
    share: float
    image_size: tuple[int, int]
    stage: int
    num_tokens: int | None
    multiply_adds: int
    compute: float


def plan_training(
    backbone: nn.Module,
    image_sizes: Sequence[tuple[int, int]] = (),
    part_step: Sequence[float] = (0,),
    expansion_step: Sequence[float] = (),
    expansion: Expansion | None = None,
    layer: int = 1,
) -> list[Phase]:
    """Plan the phases of a training.

    Args:
        backbone: runs without memory or calculation, and stays as it is.
        image_sizes: (H, W) in each part of the training; none for the size that the backbone was
            built for.
        part_step: where each part begins, in fractions of the training from 0.
        expansion_step: where each stage of token expansion begins, in the same unit.
        expansion: what its stages keep, if it is part of the training.
        layer: where it shortens the sequence.

    Raises:
        ConfigError: the backbone does not run on an image size or at a stage.
    """
    image_sizes = image_sizes or [image_size_of(backbone)]
    largest = max(image_sizes, key=lambda size: size[0] * size[1])
    plans = {}
    for size in dict.fromkeys((largest, *image_sizes)):  # the largest must run in any case
        plans[size] = (
            plan_stages(backbone, layer, expansion, size)
            if expansion
            else [plan_dense(backbone, size)]
        )
    dense = plans[largest][0].multiply_adds
    settings = {}  # (image size, stage) by where they begin, as long as the next differ
    for begin in sorted({step for step in (0, *part_step, *expansion_step) if step < 1}):
        size = image_sizes[bisect_right(part_step, begin) - 1]
        setting = size, bisect_right(expansion_step, begin)
        if not settings or setting != next(reversed(settings.values())):
            settings[begin] = setting
    phases = []
    for (begin, (size, stage)), end in zip(settings.items(), (*list(settings)[1:], 1)):
        plan = plans[size][stage]
        phases.append(
            Phase(
                begin=begin,
                share=end - begin,
                image_size=size,
                stage=stage,
                num_tokens=plan.num_tokens,
                multiply_adds=plan.multiply_adds,
                compute=plan.multiply_adds / dense,
            )
        )
    return phases


def compute_ratio(phases: Sequence[Phase]) -> float:
    """The compute of a training over that of all tokens of the largest images throughout."""
    return sum(phase.share * phase.compute for phase in phases)
