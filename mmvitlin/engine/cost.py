"""Multiply-adds and parameters of a model: one counter for tools, model index and plans.

Torch's counter counts matrix products, convolutions and the products inside fused attention, so
that softmax and linear attention are counted alike. As in papers, one multiply-add is one FLOP
here; norms, activations and resizing are not counted.

Models are counted on the meta device, where tensors have shapes and no values: a base model takes a
second and no memory.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmvitlin.engine.hosts import image_shape

FLOPS_PER_MULTIPLY_ADD = 2  # torch counts both

# Fused attention on CPUs, which torch's counter has no formula for. torch 2.1 has no such operator.
CPU_ATTENTION = getattr(torch.ops.aten, '_scaled_dot_product_flash_attention_for_cpu', None)


def _attention_flops(q: torch.Size, k: torch.Size, v: torch.Size, *_, **__) -> int:
    """Compute FLOPs of attention from the shapes of its inputs."""
    return sdpa_flop_count(q, k, v)


HANDLES = {CPU_ATTENTION: _attention_flops} if CPU_ATTENTION else {}


@dataclass(frozen=True)
class FlopCount:
    """Multiply-adds of one forward pass of a model.

    Attributes:
        by_module: multiply-adds by module name; '' is the whole model.
    """

    by_module: dict[str, int]

    @property
    def total(self) -> int:
        """Multiply-adds of the whole model."""
        return self.by_module['']


@dataclass(frozen=True)
class ModelCost:
    """Cost of a config's model.

    Attributes:
        model: the model, on the meta device.
        shape: (H, W) of the image.
        flops: multiply-adds for this image.
        parameters: number of parameters in the module tree.
        frozen_outside: number of weights in frozen blocks outside of the module tree.
    """

    model: nn.Module
    shape: tuple[int, int]
    flops: FlopCount
    parameters: int
    frozen_outside: int


def count_flops(model: nn.Module, *inputs: Tensor, **options) -> FlopCount:
    """Count the multiply-adds of `model(*inputs, **options)`, in evaluation mode.

    A module counts the operators that run between its call and its return. A module that is never
    called itself, such as a head of which only submodules are called, counts the sum of its
    children.
    """
    model.eval()
    counter = FlopCounterMode(display=False, custom_mapping=HANDLES)
    starts: list[int] = []
    spent: Counter[nn.Module] = Counter()

    def enter(module: nn.Module, _: tuple) -> None:
        starts.append(counter.get_total_flops())

    def leave(module: nn.Module, *_) -> None:
        spent[module] += counter.get_total_flops() - starts.pop()

    hooks = [module.register_forward_pre_hook(enter) for module in model.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        with torch.no_grad(), counter:
            model(*inputs, **options)
    finally:
        for hook in hooks:
            hook.remove()

    def flops_of(module: nn.Module) -> int:
        return spent[module] if module in spent else sum(map(flops_of, module.children()))

    names = model.named_modules()
    return FlopCount({name: flops_of(m) // FLOPS_PER_MULTIPLY_ADD for name, m in names})


class _LinspaceWithValues(TorchFunctionMode):
    """Runs `torch.linspace` on the CPU: models of the hosts read its values as drop path rates."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs.setdefault('device', 'cpu')
        return func(*args, **kwargs)


@contextmanager
def meta_device() -> Iterator[None]:
    """Build modules on the meta device, those included that read values of `torch.linspace`."""
    with torch.device('meta'), _LinspaceWithValues():
        yield


def build_on_meta(cfg: Config) -> nn.Module:
    """Build the model of a config on the meta device; its host must have been imported."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope), meta_device():
        return MODELS.build(cfg.model)


def on_meta(model: nn.Module) -> nn.Module:
    """Copy a model to the meta device, without its weights, in evaluation mode.

    The copy runs under `with torch.device('meta')` and draws no random number.
    """
    memo: dict[int, Tensor] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device='meta')
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device='meta')
    copied = deepcopy(model, memo).to('meta')
    copied.eval()  # a host's model may return None
    with torch.device('meta'):
        empty_frozen_weights(copied)
    return copied


def empty_frozen_weights(model: nn.Module) -> int:
    """Give frozen blocks outside of the module tree empty weights; return the number of weights.

    Such blocks (FrozenLLaMA) have `take_empty` and `num_weights`. Their file need not exist.
    """
    frozen: list[Any] = [module for module in model.modules() if hasattr(module, 'take_empty')]
    for module in frozen:
        module.take_empty()
    return sum(module.num_weights for module in frozen)


def count_config(cfg: Config, shape: tuple[int, int] | None = None) -> ModelCost:
    """Count the cost of one image in the model of a config, heads included.

    The region heads of a two-stage detector get as many proposals as its test settings allow.

    Args:
        cfg: the config of any host; the host must have been imported.
        shape: (H, W) of the image in pixels; by default that of `image_shape`.
    """
    height, width = shape or image_shape(cfg)
    model = revert_sync_batchnorm(build_on_meta(cfg))
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        frozen_outside = empty_frozen_weights(model)
        _stand_in_for_proposals(model)
        image = BaseDataElement(
            metainfo=dict.fromkeys(
                ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), (height, width)
            )
        )
        image.set_metainfo(dict(scale_factor=(1.0, 1.0)))
        channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
        inputs = torch.empty(1, channels, height, width)
        flops = count_flops(model, inputs, data_samples=[image])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ModelCost(model, (height, width), flops, parameters, frozen_outside)


def _stand_in_for_proposals(model: nn.Module) -> None:
    """Replace the proposals of a two-stage detector, so that it runs on tensors without values.

    The proposals, and the level that each is pooled from, depend on values. The detector gets the
    largest number of proposals that its test settings allow, and pooled maps of the right shape.
    """
    rpn_head = getattr(model, 'rpn_head', None)
    if rpn_head is None or not hasattr(model, 'roi_head'):
        return

    def predict(maps: tuple[Tensor, ...], *_, **__) -> list[InstanceData]:
        rpn_head(maps)
        return [InstanceData(bboxes=maps[0].new_empty(rpn_head.test_cfg.max_per_img, 4))]

    def pool(extractor: Any) -> None:
        size = extractor.roi_layers[0].output_size
        extractor.forward = lambda maps, rois, *_, **__: maps[0].new_empty(
            len(rois), extractor.out_channels, *size
        )

    rpn_head.predict = predict
    for module in model.roi_head.modules():
        if hasattr(module, 'roi_layers'):
            pool(module)
