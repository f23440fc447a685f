"""Linear layers that run on oneDNN instead of BLAS on CPUs: opt-in, for any model."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.ops.symbolic import is_captured


class OneDNNLinear(nn.Linear):
    """`nn.Linear` on (..., C), computed in float32 on a CPU as a 1 x 1 convolution over the tokens.

    Both are the same product. PyTorch sends a float32 linear to BLAS (MKL, which takes slower
    kernels on processors of other makers) and a channels_last convolution to oneDNN, which compiles
    its kernels for the processor at hand. On other devices, in other dtypes, and while a graph is
    captured (torch.compile, torch.export, torch.jit.trace) it is a plain `nn.Linear`. Parameters
    and checkpoints are those of `nn.Linear`. benchmarks/README.md has the measurements.
    """

    def forward(self, x: Tensor) -> Tensor:
        if is_captured() or x.device.type != 'cpu' or x.dtype != torch.float32 or not x.numel():
            return super().forward(x)
        # On one thread oneDNN is faster than BLAS only with a separate batch dimension.
        batch = x.shape[0] if x.ndim > 2 and torch.get_num_threads() == 1 else 1
        tokens = x.reshape(batch, 1, -1, self.in_features).permute(0, 3, 1, 2)  # (B, C, 1, N)
        out = F.conv2d(tokens, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)


def use_onednn_linears(model: nn.Module) -> nn.Module:
    """Make every `nn.Linear` of a model an `OneDNNLinear`, in place; return the model.

    Subclasses of `nn.Linear` stay as they are. It is for float32 inference and training on CPUs; a
    model that is to be quantised keeps its plain linear layers.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDNNLinear
    return model
