"""Parts of the models that a curriculum attaches forward hooks to."""

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel, BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmvitlin.compat import uncompiled


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside data parallel, averaged, test-time augmented and compiled models."""
    while True:
        inner: Any = uncompiled(model)
        if is_model_wrapper(inner) or isinstance(inner, (BaseAveragedModel, BaseTTAModel)):
            inner = inner.module
        if inner is model:
            return model
        model = inner


def find_backbone(model: nn.Module) -> nn.Module:
    """Return the backbone of a wrapped model, or the model itself if it has none.

    The backbone of mmpretrain's TimmClassifier is its whole timm model, `model`.
    """
    model = unwrap(model)
    for name in ('backbone', 'model'):
        part = getattr(model, name, None)
        if isinstance(part, nn.Module):
            return uncompiled(part)
    return model


def layers_of(backbone: nn.Module) -> nn.ModuleList | nn.Sequential | None:
    """Return the layers of a plain vision transformer, or None if a backbone has none.

    They are called `layers` here and in mmpretrain, `blocks` in timm. A backbone that does not
    declare its prefix tokens has no plain sequence, whatever the name of its layers.
    """
    if prefix_tokens_of(backbone) is None:
        return None
    for name in ('layers', 'blocks'):
        layers = getattr(backbone, name, None)
        if isinstance(layers, (nn.ModuleList, nn.Sequential)):
            return layers
    return None


def prefix_tokens_of(backbone: nn.Module) -> int | None:
    """Return the number of tokens before the patches; None if a backbone does not declare it.

    mmpretrain calls it `num_extra_tokens`, timm and this package `num_prefix_tokens`.
    """
    for name in ('num_extra_tokens', 'num_prefix_tokens'):
        number = getattr(backbone, name, None)
        if isinstance(number, int):
            return number
    return None


def find_averages(runner: Runner) -> list[BaseAveragedModel]:
    """Return the averaged models of a run, after its `before_run`."""
    return [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]


def detach(module: nn.Module, name: str) -> None:
    """Remove the forward hook that a curriculum keeps as attribute `name` of a module, if any.

    The hook has a `handle`. A deep copy of the module has a copy of both.
    """
    attached = getattr(module, name, None)
    if attached is not None:
        attached.handle.remove()
        delattr(module, name)
