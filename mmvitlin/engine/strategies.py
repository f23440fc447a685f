"""Training strategy that shards a model over processes (FSDP, arXiv 2304.11277)."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import is_main_process
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import lambda_auto_wrap_policy

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.compat import FSDPStrategy
from mmvitlin.errors import ConfigError
from mmvitlin.registry import STRATEGIES, register


@register(STRATEGIES)
class ShardedStrategy(FSDPStrategy):
    """MMEngine's FSDPStrategy, which resumes with torch 2.1 and newer, and runs on CPUs too.

    MMEngine's passes the optimizer's state in the order of torch 2.0, so that resuming ends in an
    error. A checkpoint is one file, written atomically, and like that of a training without
    sharding: it loads in the unwrapped model. Use it with MMEngine's FlexibleRunner:

        runner_type = 'FlexibleRunner'
        strategy = dict(type='mmvitlin.ShardedStrategy', wrap=['TransformerLayer'])

    A process keeps its shards as vectors, so that `flat_decay_mult` would match every parameter.
    Averages of the weights (AverageHook, EMAHook) copy the model, which a sharded one does not
    allow.

    Args:
        wrap: names of classes. All parameters of such a module are gathered for its forward pass
            and its backward pass, and are sharded otherwise.
        model_wrapper: as in MMEngine, arguments of MMFullyShardedDataParallel.
        kwargs: other arguments of FSDPStrategy, without `state_dict_cfg`.

    Raises:
        ConfigError: the model has no module of a class in `wrap`.
        RuntimeError: on loading, a checkpoint of another model.
    """

    model: nn.Module  # of MMEngine's, which does not declare it

    def __init__(self, *, wrap: Sequence[str], model_wrapper: dict | None = None, **kwargs: Any):
        self.wrap = tuple(wrap)
        policy = partial(lambda_auto_wrap_policy, lambda_fn=self.is_wrapped)
        wrapper = dict(model_wrapper or {}, auto_wrap_policy=policy)
        on_cpu = get_device() == 'cpu'
        if on_cpu:
            wrapper['device_id'] = torch.device('cpu')  # MMEngine's is the number of a GPU
        # On a CPU, torch does not copy what it offloads to the CPU, and then frees it.
        whole = dict(rank0_only=True, offload_to_cpu=not on_cpu)
        states = dict(
            state_dict_type='FULL_STATE_DICT',
            state_dict_config=dict(type='FullStateDictConfig', **whole),
            optim_state_dict_config=dict(type='FullOptimStateDictConfig', **whole),
        )
        super().__init__(model_wrapper=wrapper, state_dict_cfg=states, **kwargs)

    def is_wrapped(self, module: nn.Module) -> bool:
        """Return whether a module is gathered and sharded as one."""
        return type(module).__name__ in self.wrap

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, or return a built one."""
        built = super().build_model(model)
        if not any(map(self.is_wrapped, built.modules())):
            raise ConfigError(
                f'strategy.wrap={list(self.wrap)} names no class of a module in the model: give '
                'the classes of its layers, such as TransformerLayer'
            )
        return built

    def save_checkpoint(self, filename: str, **kwargs: Any) -> None:
        """Gather the shards, and write them in the first process: arguments as in MMEngine."""
        writes = atomic_write(filename) if is_main_process() else nullcontext(filename)
        with writes as partial_file:
            super().save_checkpoint(str(partial_file), **kwargs)

    def load_model_state_dict(self, state_dict: dict, **options: Any) -> None:
        """Load a state dict of the unwrapped model.

        MMEngine's options are ignored: parts that do not match are always an error, whereas
        MMEngine leaves them at random values.
        """
        self.model.load_state_dict(state_dict)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the whole state of an optimizer."""
        shards = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(shards)
