"""Counting a model's multiply-adds and parameters, without computing anything.

Torch's own counter sees what reaches its kernels: matrix products, convolutions, and the products
inside fused attention, so that softmax and linear attention count alike. As papers do, one
multiply-add is one FLOP here, and norms, activations and resizing are left out.

A config's model is counted on the meta device, where tensors have shapes and no values: a base
model takes a second and no memory.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmvitlin.models.backbones.frozen_llama import FrozenLLaMA

FLOPS_PER_MULTIPLY_ADD = 2  # torch counts both

# The image that a model of each host sees where its config does not say, in pixels.
SHAPES = {'mmpretrain': (224, 224), 'mmdet': (800, 1280), 'mmseg': (512, 512)}
COCO_SCALE = (1333, 800)  # (W, H), an upper bound; counted at mmdet's 800 x 1280, as in papers


def _cpu_attention(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_, **__) -> int:
    """FLOPs of fused attention on CPUs, which torch's counter passes over."""
    return sdpa_flop_count(q, k, v)


HANDLES = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _cpu_attention}


@dataclass(frozen=True)
class FlopCount:
    """The multiply-adds of one pass through a model.

    Attributes:
        by_module: name of a module, '' for the whole model -> its multiply-adds.
    """

    by_module: dict[str, int]

    @property
    def total(self) -> int:
        """Multiply-adds of the whole model."""
        return self.by_module['']


@dataclass(frozen=True)
class ModelCost:
    """What a config's model costs.

    Attributes:
        model: the model, on the meta device.
        shape: (H, W) of the image that was counted.
        flops: its multiply-adds.
        parameters: of the model; those of frozen blocks outside of the module tree are not in it.
        frozen_outside: the parameters of these.
    """

    model: nn.Module
    shape: tuple[int, int]
    flops: FlopCount
    parameters: int
    frozen_outside: int


def count_flops(model: nn.Module, *inputs: Tensor, **options) -> FlopCount:
    """Count the multiply-adds of `model(*inputs, **options)`, in evaluation mode.

    A module has those between its call and its return; one that is never called itself, such as a
    head whose parts are, has those of its children.
    """
    model.eval()
    counter = FlopCounterMode(display=False, custom_mapping=HANDLES)
    starts, spent = [], Counter()

    def enter(module: nn.Module, _: tuple) -> None:
        starts.append(counter.get_total_flops())

    def leave(module: nn.Module, *_) -> None:
        spent[module] += counter.get_total_flops() - starts.pop()

    hooks = [module.register_forward_pre_hook(enter) for module in model.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    with torch.no_grad(), counter:
        model(*inputs, **options)
    for hook in hooks:
        hook.remove()

    def flops_of(module: nn.Module) -> int:
        return spent[module] if module in spent else sum(map(flops_of, module.children()))

    names = model.named_modules()
    return FlopCount({name: flops_of(m) // FLOPS_PER_MULTIPLY_ADD for name, m in names})


def image_shape(cfg: Config) -> tuple[int, int]:
    """(H, W) of the images that a config's model is tested on, as far as the config says.

    For mmpretrain the size that the test pipeline ends with, for mmdetection its scale, for
    mmsegmentation the training crop.
    """
    scope = cfg.default_scope
    if scope == 'mmseg':
        size = cfg.model.get('data_preprocessor', {}).get('size')
        return tuple(size) if size else SHAPES[scope]
    pipeline = (cfg.get('test_dataloader') or {}).get('dataset', {}).get('pipeline', ())
    for step in reversed(pipeline):
        size = step.get('crop_size') if step['type'] == 'CenterCrop' else step.get('scale')
        if step['type'] in ('CenterCrop', 'Resize') and size:
            width, height = (size, size) if isinstance(size, int) else size
            return SHAPES[scope] if (width, height) == COCO_SCALE else (height, width)
    return SHAPES[scope]


def count_config(cfg: Config, shape: tuple[int, int] | None = None) -> ModelCost:
    """Count what one image costs in the model of a config, heads included.

    A two-stage detector's region heads see as many proposals as its test settings let through.

    Args:
        cfg: the config of any host; the host must have been imported.
        shape: (H, W) of the image in pixels; by default that of `image_shape`.
    """
    height, width = shape or image_shape(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        frozen_outside = 0
        for module in model.modules():
            if isinstance(module, FrozenLLaMA):  # its file need not be there
                module.take_empty()
                frozen_outside += module.num_weights
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
    """Let a two-stage detector run on tensors without values.

    Which proposals there are, and on which level each is pooled, goes by values. Their number is
    taken to be the largest that is let through; pooling, which counts nothing, gives its shape.
    """
    rpn_head = getattr(model, 'rpn_head', None)
    if rpn_head is None or not hasattr(model, 'roi_head'):
        return

    def predict(maps: tuple[Tensor, ...], *_, **__) -> list[InstanceData]:
        rpn_head(maps)
        return [InstanceData(bboxes=maps[0].new_empty(rpn_head.test_cfg.max_per_img, 4))]

    def pool(extractor: nn.Module) -> None:
        size = extractor.roi_layers[0].output_size
        extractor.forward = lambda maps, rois, *_, **__: maps[0].new_empty(
            len(rois), extractor.out_channels, *size
        )

    rpn_head.predict = predict
    for module in model.roi_head.modules():
        if hasattr(module, 'roi_layers'):
            pool(module)
