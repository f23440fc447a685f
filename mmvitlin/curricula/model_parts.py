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
    """Return the backbone of a wrapped model; the model itself where it has none."""
    model = unwrap(model)
    return uncompiled(getattr(model, 'backbone', model))


def find_averages(runner: Runner) -> list[BaseAveragedModel]:
    """Return the averaged models of a run, once its `before_run` is over."""
    return [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]


def detach(module: nn.Module, name: str) -> None:
    """Remove the forward hook that a curriculum keeps as attribute `name` of a module, if any.

    The hook has a `handle`. A deep copy of the module has a copy of both.
    """
    attached = getattr(module, name, None)
    if attached is not None:
        attached.handle.remove()
        delattr(module, name)
