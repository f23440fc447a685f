"""ViT-LLaMA-small with a block of LLaMA-7B's size: a training step of 4 images of 224 x 224.

The frozen block, in float32 and in half precision, is compared with a float32 block whose weights
require gradients, which are computed and not used, and whose attention is not fused.
"""

from collections.abc import Callable
from functools import partial

from harness import Case, Group, option_parser, run, training
from torch import Tensor

from mmvitlin.models import ViTLLaMA
from mmvitlin.models.backbones.frozen_llama import FrozenLLaMA
from mmvitlin.ops.llama_block import llama_block_naive, rms_norm

PEER = 'float32 block with gradients'
LLAMA_7B = dict(embed_dims=4096, num_heads=32, feedforward_channels=11008, checkpoint='random')


class UnfrozenLLaMA(FrozenLLaMA):
    """Block whose weights require gradients, with unfused attention."""

    def forward(self, x: Tensor) -> Tensor:
        self.prepare(required=True)
        dtype = x.dtype
        for block in self._weights.on(x.device):
            for weight in block.values():
                weight.requires_grad_(True).grad = None
            x = llama_block_naive(x, block, self.num_heads)
        return rms_norm(x).to(dtype)


def frozen(dtype: str, llama: dict) -> ViTLLaMA:
    """Build the model with its frozen block in a dtype."""
    return ViTLLaMA('small', llama=llama | dict(dtype=dtype))


def unfrozen(llama: dict) -> ViTLLaMA:
    """Build the peer."""
    model = ViTLLaMA('small', llama=llama)
    model.llama = UnfrozenLLaMA(**llama)
    return model


def models(device: str, llama: dict) -> dict[str, Callable[[], ViTLLaMA]]:
    """Return name -> builder of the models; float16 is slow on CPUs and measured on GPUs only."""
    dtypes = ('float32', 'bfloat16') if device == 'cpu' else ('float32', 'bfloat16', 'float16')
    cases = {f'frozen {dtype} block': partial(frozen, dtype, llama) for dtype in dtypes}
    return cases | {PEER: partial(unfrozen, llama)}


def groups(
    device: str, llama: dict = LLAMA_7B, shape: tuple[int, ...] = (4, 3, 224, 224)
) -> list[Group]:
    """Compare the models; `llama` gives the sizes of the block, `shape` that of the images."""
    batch, _, height, width = shape
    return [
        Group(
            f'training step, {batch} x {height} x {width}',
            peer=PEER,
            cases=[
                Case(name, partial(training, build_model, shape, device))
                for name, build_model in models(device, llama).items()
            ],
        )
    ]


if __name__ == '__main__':
    options = option_parser('vit_llama', __doc__).parse_args()
    run(groups(options.device), options)
