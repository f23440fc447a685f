"""A linear layer that runs on torch's faster CPU library."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`nn.Linear` on (..., C), in float32 on a CPU as a 1 x 1 convolution over the tokens.

    Both are the same product. torch sends a float32 linear to BLAS (MKL, which holds back on
    processors of other makers) but a channels_last convolution to oneDNN, which compiles its
    kernels for the processor at hand. Parameters and checkpoints are `nn.Linear`'s;
    benchmarks/README.md has the measurement.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != 'cpu' or x.dtype != torch.float32 or not x.numel():
            return super().forward(x)
        tokens = x.reshape(1, 1, -1, self.in_features).permute(0, 3, 1, 2)  # (1, C, 1, tokens)
        out = F.conv2d(tokens, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
