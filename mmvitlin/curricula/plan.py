"""Plan of a training whose images, tokens, or both grow: its stages, their tokens and compute.

A copy of the backbone on the meta device runs at each image size and each stage of token expansion.
No values are computed and no random numbers are drawn. A backbone that cannot work with fewer
tokens or smaller images fails before training.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mmvitlin.curricula.model_parts import detach, layers_of
from mmvitlin.curricula.token_expansion.token_reduction import (
    ATTRIBUTE,
    Expansion,
    attach_reduction,
    check_layers,
)
from mmvitlin.engine.cost import count_flops, on_meta
from mmvitlin.errors import ConfigError

Size = tuple[int, int]  # height and width of an image in pixels


@dataclass(frozen=True)
class StageCost:
    """Cost of one image in a forward pass of a backbone, at a stage of token expansion.

    Attributes:
        num_tokens: number of tokens after token reduction, prefix tokens included; None for
            backbones without a plain token sequence.
        multiply_adds: number of multiply-adds in matrix products and convolutions.
    """

    num_tokens: int | None
    multiply_adds: int


@dataclass(frozen=True)
class PlannedStage:
    """Stage of a training, in which neither images nor tokens change.

    Attributes:
        begin, share: beginning and length of the stage, in fractions of the training.
        image_size: (H, W) of the images.
        expansion_stage: stage of token expansion; 0 has all tokens.
        cost: of one image.
        compute: multiply-adds, relative to those of the largest images with all tokens.
    """

    begin: float
    share: float
    image_size: Size
    expansion_stage: int
    cost: StageCost
    compute: float

    def __str__(self) -> str:
        height, width = self.image_size
        tokens = f' and {self.cost.num_tokens} tokens' if self.cost.num_tokens else ''
        return (
            f'{self.share:.0%} of the training on images of {height} x {width}{tokens} '
            f'({self.compute:.3f} of the compute)'
        )


@dataclass(frozen=True)
class TrainingPlan:
    """Plan of a training.

    Attributes:
        costs: image size -> cost at each stage of token expansion, from 0, all tokens, to K.
        stages: of the training, in their order.
    """

    costs: dict[Size, list[StageCost]]
    stages: list[PlannedStage]

    @property
    def compute(self) -> float:
        """Compute of the training, relative to one on the largest images with all tokens."""
        return sum(stage.share * stage.compute for stage in self.stages)

    def __str__(self) -> str:
        return (
            f'{"; ".join(map(str, self.stages))}; in all {self.compute:.3f} of the compute, at '
            f'most {1 / self.compute:.3f}x faster'
        )


def plan_training(
    backbone: nn.Module,
    image_sizes: Sequence[Size] = (),
    size_step: Sequence[float] = (0,),
    expansion: Expansion | None = None,
    expansion_step: Sequence[float] = (),
) -> TrainingPlan:
    """Plan a training.

    Args:
        backbone: stays as it is.
        image_sizes: (H, W) at each stage of image sizes; none for the backbone's `img_size`.
        size_step: where each of these stages begins, in fractions of the training from 0.
        expansion: the settings of token expansion, if it is part of the training.
        expansion_step: where each of its stages begins, in the same unit.

    Raises:
        ConfigError: the backbone does not run on an image size or at a stage.
    """
    image_sizes = image_sizes or [image_size_of(backbone)]
    largest = max(image_sizes, key=lambda size: size[0] * size[1])
    costs = {
        size: count_stages(backbone, expansion, size)
        for size in dict.fromkeys((largest, *image_sizes))
    }
    # Begin -> (image size, stage of token expansion), where they change.
    settings: dict[float, tuple[Size, int]] = {}
    for begin in sorted({step for step in (0, *size_step, *expansion_step) if step < 1}):
        size = image_sizes[bisect_right(size_step, begin) - 1]
        setting = size, bisect_right(expansion_step, begin)
        if not settings or setting != next(reversed(settings.values())):
            settings[begin] = setting
    stages = []
    for (begin, (size, stage)), end in zip(settings.items(), (*list(settings)[1:], 1)):
        cost = costs[size][stage]
        compute = cost.multiply_adds / costs[largest][0].multiply_adds
        stages.append(PlannedStage(begin, end - begin, size, stage, cost, compute))
    return TrainingPlan(costs, stages)


def count_stages(
    backbone: nn.Module, expansion: Expansion | None = None, image_size: Size | None = None
) -> list[StageCost]:
    """Count the cost of one image at each stage of token expansion, from 0, all tokens, to K.

    Args:
        backbone: stays as it is.
        expansion: None counts all tokens alone.
        image_size: by default the backbone's `img_size`.

    Raises:
        ConfigError: the backbone has no plain token sequence, does not run on such images or on
            fewer tokens, or returns an output that needs every token.
    """
    if expansion:
        check_layers(backbone, expansion.layer)
    name = type(backbone).__name__
    size = image_size or image_size_of(backbone)
    copied = on_meta(backbone)
    image = _image_for(copied, size)
    lengths, shapes = [], []
    detach(copied, ATTRIBUTE)
    reduction = attach_reduction(copied, expansion, sparse_eval=True) if expansion else None
    layers = layers_of(copied)
    if layers is not None:
        layer = layers[expansion.layer if expansion else -1]
        layer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    copied.register_forward_hook(lambda _, inputs, outputs: shapes.append(_shapes(outputs)))
    costs = []
    for stage in range(1 + len(expansion.keep_rate) if expansion else 1):
        if reduction:
            reduction.stage = stage
        try:
            with torch.device('meta'):
                multiply_adds = count_flops(copied, image).total
        except Exception as error:
            reason = f'({type(error).__name__}: {error})'
            if not stage:
                raise ConfigError(
                    f'{name} does not run on images of {size[0]} x {size[1]} {reason}'
                ) from error
            raise ConfigError(
                f'{name} does not run on fewer tokens, so token expansion cannot train it '
                f'{reason}; it takes plain vision transformers, and '
                "an output that does not need every token, such as out_type='cls_token'"
            ) from error
        if shapes[-1] != shapes[0]:
            raise ConfigError(
                f'{name} returns outputs of shape {shapes[-1]} instead of {shapes[0]} when '
                f'{lengths[0]} tokens become {lengths[-1]}: out_type='
                f'{getattr(backbone, "out_type", None)!r} needs every token. Token expansion '
                "trains readouts such as out_type='cls_token'"
            )
        costs.append(StageCost(lengths[-1] if lengths else None, multiply_adds))
    return costs


def image_size_of(backbone: nn.Module) -> Size:
    """Return (H, W) of the images that a backbone, or its `patch_embed` as in timm, was built for.

    Raises:
        ConfigError: it has no `img_size`.
    """
    parts = backbone, getattr(backbone, 'patch_embed', None)
    sizes = (getattr(part, 'img_size', None) for part in parts)
    size = next((size for size in sizes if size is not None), None)
    if size is None:
        raise ConfigError(
            f'{type(backbone).__name__} has no img_size, so that its tokens cannot be counted: '
            'token expansion takes plain vision transformers'
        )
    return (size, size) if isinstance(size, int) else tuple(size)


def _image_for(backbone: nn.Module, size: Size) -> torch.Tensor:
    """Make an empty image (1, C, H, W) for the first convolution of a backbone."""
    stem = next((layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)), None)
    if stem is None:
        raise ConfigError(
            f'{type(backbone).__name__} has no convolution, so that the channels of its images are '
            'unknown and its compute cannot be counted'
        )
    return stem.weight.new_empty(1, stem.in_channels, *size)


def _shapes(outputs: Any) -> list | tuple[int, ...]:
    """Return the shapes of nested outputs."""
    if isinstance(outputs, torch.Tensor):
        return tuple(outputs.shape)
    return [_shapes(output) for output in outputs]
