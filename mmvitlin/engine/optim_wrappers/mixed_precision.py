"""Mixed precision by one setting of a config, on every device."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from mmvitlin.errors import ConfigError
from mmvitlin.registry import OPTIM_WRAPPERS, register

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16, 'float32': torch.float32}


@register(OPTIM_WRAPPERS)
class MixedPrecisionOptimWrapper(OptimWrapper):
    """MMEngine's OptimWrapper with autocast in the forward pass, and scaled losses in float16.

    A CPU trains in float32 if the config says 'float16', with a log line, so that the same config
    runs on CPUs and GPUs. 'bfloat16' works on a CPU too, and needs no scaled losses:
    `--cfg-options optim_wrapper.dtype=bfloat16`.

    Args:
        optimizer, accumulative_counts, clip_grad: as OptimWrapper's.
        dtype: 'float16', 'bfloat16' or 'float32'.
        init_scale: initial scale of the losses in float16.

    Raises:
        ConfigError: an unknown `dtype`, or one that the device does not support.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        dtype: str = 'float16',
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        init_scale: float = 2.0**16,
    ):
        if dtype not in DTYPES:
            raise ConfigError(f'optim_wrapper.dtype must be one of {[*DTYPES]}, got {dtype!r}')
        super().__init__(optimizer, accumulative_counts=accumulative_counts, clip_grad=clip_grad)
        self.device = get_device()
        if dtype == 'float16' and self.device == 'cpu':
            print_log(
                'A CPU trains in float32 where the config says float16; '
                'optim_wrapper.dtype=bfloat16 is mixed precision for CPUs too',
                logger='current',
            )
            dtype = 'float32'
        if dtype == 'bfloat16' and self.device == 'cuda' and not torch.cuda.is_bf16_supported():
            raise ConfigError(
                'this GPU has no bfloat16: set optim_wrapper.dtype=float16, or float32'
            )
        self.dtype = DTYPES[dtype]
        scaled = dtype == 'float16'
        if hasattr(torch.amp, 'GradScaler'):
            self.loss_scaler = torch.amp.GradScaler(self.device, init_scale, enabled=scaled)
        else:  # torch before 2.3
            self.loss_scaler = torch.cuda.amp.GradScaler(init_scale, enabled=scaled)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run a forward pass in mixed precision."""
        # torch 2.1 refuses an autocast to float32, a disabled one too.
        plain = self.dtype is torch.float32
        autocast = nullcontext() if plain else torch.autocast(self.device, self.dtype)
        with super().optim_context(model), autocast:
            yield

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide a loss by the number of batches in a step, and scale it for float16."""
        return self.loss_scaler.scale(super().scale_loss(loss))

    def step(self, **kwargs: object) -> None:
        """Step, unless gradients in float16 are not finite; update the loss scale."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self) -> dict:
        """Return the states of the optimizer and of the loss scale."""
        return {**super().state_dict(), 'loss_scaler': self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load both states, also from a run in another precision."""
        state_dict = dict(state_dict)
        scale = state_dict.pop('loss_scaler', None)
        if scale:
            self.loss_scaler.load_state_dict(scale)
        super().load_state_dict(state_dict)
