"""A linear layer that runs on torch's faster CPU library."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmvitlin.layers.activation_checkpoint import is_compiling


class Linear(nn.Linear):
    """`nn.Linear` on (..., C), in float32 on a CPU as a 1 x 1 convolution over the tokens.

    Both are the same product. torch sends a float32 linear to BLAS (MKL, which holds back on
    processors of other makers) but a channels_last convolution to oneDNN, which compiles its
    kernels for the processor at hand; on a single thread only from 16 images on, so there the
    first dimension stays one of images. Parameters and checkpoints are `nn.Linear`'s;
    benchmarks/README.md has the measurement.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != 'cpu' or x.dtype != torch.float32 or not x.numel():
            return super().forward(x)
        alone = not is_compiling() and torch.get_num_threads() == 1
        images = len(x) if x.ndim > 2 and alone else 1
        tokens = x.reshape(images, 1, -1, self.in_features).permute(0, 3, 1, 2)  # (B, C, 1, N)
        out = F.conv2d(tokens, self.weight[:, :, None, None], self.bias)
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], self.out_features)
