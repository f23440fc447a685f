"""What token expansion will cost, known before training: tokens and compute of every stage.

A copy of the backbone without memory (torch's fake tensors) runs dense and at each stage. Nothing
is calculated, no random number drawn, and what cannot work with fewer tokens shows at once.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmvitlin.engine.token_sequence import (
    Expansion,
    Stage,
    check_layers,
    has_token_sequence,
    remove_from,
    shorten_at,
)
from mmvitlin.errors import ConfigError
from mmvitlin.models.backbones.frozen_llama import FrozenLLaMA


@dataclass(frozen=True)
class StagePlan:
    """One stage of a backbone.

    Attributes:
        num_tokens: tokens of one image behind the layer where it is shortened, extra ones included;
            None for backbones without a plain token sequence.
        multiply_adds: of the matrix products and convolutions in a forward pass of one image.
        compute: `multiply_adds` over those of the dense pass.
    """

    num_tokens: int | None
    multiply_adds: int
    compute: float


def plan_stages(
    backbone: nn.Module,
    layer: int,
    expansion: Expansion,
    image_size: tuple[int, int] | None = None,
) -> list[StagePlan]:
    """Plan the stages 0 (dense) to K of a backbone, on images of its `img_size` or another (H, W).

    Raises:
        ConfigError: it has no plain token sequence, or hands on an output that needs all tokens.
    """
    check_layers(backbone, layer)
    name = type(backbone).__name__
    stage, lengths, plans = Stage(), [], []
    copied, images = _without_memory(backbone, image_size)
    with _torch_says_nothing(), torch.no_grad():
        shorten_at(copied, layer, expansion, stage, sparse_eval=True)
        copied.layers[layer].register_forward_pre_hook(
            lambda _, inputs: lengths.append(inputs[0].shape[1])
        )
        for stage.number in range(len(expansion.keep_rate) + 1):
            try:
                multiply_adds, shapes = _count(copied, images)
            except Exception as error:
                alone = 'on fewer tokens' if plans else 'on images alone'
                raise ConfigError(
                    f'{name} does not run {alone}, so token expansion cannot train it '
                    f'({type(error).__name__}: {error}); it takes plain vision transformers, and '
                    "an output that does not need every token, such as out_type='cls_token'"
                ) from error
            if not plans:
                dense, dense_shapes = multiply_adds, shapes
            elif shapes != dense_shapes:
                raise ConfigError(
                    f'{name} hands on outputs of shape {shapes} instead of {dense_shapes} when '
                    f'{lengths[0]} tokens become {lengths[stage.number]}: out_type='
                    f'{getattr(backbone, "out_type", None)!r} needs every token. Token expansion '
                    "trains readouts such as out_type='cls_token'"
                )
            plans.append(StagePlan(lengths[stage.number], multiply_adds, multiply_adds / dense))
    return plans


def plan_dense(backbone: nn.Module, image_size: tuple[int, int]) -> StagePlan:
    """Plan any backbone on images of a size (H, W), with all tokens.

    Raises:
        ConfigError: it does not run on such images.
    """
    lengths = []
    copied, images = _without_memory(backbone, image_size)
    if has_token_sequence(copied):
        copied.layers[-1].register_forward_pre_hook(
            lambda _, inputs: lengths.append(inputs[0].shape[1])
        )
    with _torch_says_nothing(), torch.no_grad():
        try:
            multiply_adds, _ = _count(copied, images)
        except Exception as error:
            raise ConfigError(
                f'{type(backbone).__name__} does not run on images of {image_size[0]} x '
                f'{image_size[1]} ({type(error).__name__}: {error})'
            ) from error
    return StagePlan(lengths[0] if lengths else None, multiply_adds, 1.0)


def stage_shares(expansion_step: Sequence[float], length: float) -> list[float]:
    """The share of a training of `length` that each stage, from 0 to K, takes.

    `expansion_step` and `length` are both in epochs, or fractions and 1.
    """
    edges = [min(edge, length) for edge in (0, *expansion_step, length)]
    return [(end - begin) / length for begin, end in pairwise(edges)]


def speed_up_bound(compute: Sequence[float], shares: Sequence[float]) -> float:
    """How many times faster than dense a schedule is at most, where time follows compute."""
    return 1 / sum(part * share for part, share in zip(compute, shares, strict=True))


def _attention(q: Sequence[int], k: Sequence[int], v: Sequence[int], *args, **kwargs) -> int:
    """FLOPs of q k^T and its product with v, by shapes (B, H, N, D), (B, H, M, D), (B, H, M, E)."""
    B, H, N, D = q
    return 2 * B * H * N * k[-2] * (D + v[-1])


CPU_ATTENTION = '_scaled_dot_product_flash_attention_for_cpu'  # torch 2.1 has none
NOT_COUNTED_BY_TORCH = {
    getattr(torch.ops.aten, name): _attention
    for name in (CPU_ATTENTION,)
    if hasattr(torch.ops.aten, name)
}


@contextmanager
def _torch_says_nothing() -> Iterator[None]:
    """Keep fake tensors from logging what fails, since it is raised as well."""
    logger = logging.getLogger('torch._subclasses.fake_tensor')
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _count(backbone: nn.Module, images: torch.Tensor) -> tuple[int, list | tuple[int, ...]]:
    """Multiply-adds of a forward pass, and the shapes of its outputs."""
    counter = FlopCounterMode(display=False, custom_mapping=NOT_COUNTED_BY_TORCH)
    with counter:
        shapes = _shapes(backbone(images))
    return counter.get_total_flops() // 2, shapes


def _without_memory(
    backbone: nn.Module, image_size: tuple[int, int] | None
) -> tuple[nn.Module, torch.Tensor]:
    """A copy in evaluation mode and an image for it whose tensors have shapes only.

    What they meet is real: a tensor that a function keeps for later calls must not be a fake.
    """
    memo = {}
    with FakeTensorMode(allow_non_fake_inputs=True):
        for parameter in backbone.parameters():
            fake = torch.empty_like(parameter, device='cpu')
            memo[id(parameter)] = nn.Parameter(fake, requires_grad=False)
        for buffer in backbone.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device='cpu')
        copied = deepcopy(backbone, memo)
        if has_token_sequence(copied):
            remove_from(copied)
        for module in copied.modules():
            if isinstance(module, FrozenLLaMA):  # whose weights copies share, or have yet to read
                module.take_empty()
        copied.eval()
        return copied, _image(copied, image_size)


def _image(backbone: nn.Module, image_size: tuple[int, int] | None) -> torch.Tensor:
    """One image (1, C, H, W) of a size, or of the size that a backbone was built for."""
    stem = stem_of(backbone)
    if stem is None or (image_size is None and getattr(backbone, 'img_size', None) is None):
        raise ConfigError(
            f'{type(backbone).__name__} has no img_size or no convolution, so that its tokens '
            'cannot be counted: token expansion takes plain vision transformers'
        )
    return stem.weight.new_empty(1, stem.in_channels, *(image_size or image_size_of(backbone)))


def image_size_of(backbone: nn.Module) -> tuple[int, int]:
    """Height and width of the images that a backbone was built for."""
    size = backbone.img_size
    return (size, size) if isinstance(size, int) else tuple(size)


def stem_of(backbone: nn.Module) -> nn.Conv2d | None:
    """The convolution that sees the images first."""
    return next((layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)), None)


def patch_size_of(backbone: nn.Module) -> tuple[int, int]:
    """Height and width of a patch in pixels."""
    side = getattr(getattr(backbone, 'patch_embed', None), 'patch_size', None)  # of ours
    return (side, side) if side else stem_of(backbone).stride


def _shapes(outputs: object) -> list | tuple[int, ...]:
    """The shapes of nested outputs."""
    if isinstance(outputs, torch.Tensor):
        return tuple(outputs.shape)
    return [_shapes(output) for output in outputs]
