"""Backbones in a detector's training: forward and backward on one large image, float32.

The time of a plain vision transformer includes the pyramid of Mask R-CNN, with strides 4 to 64 from
one map. L2ViT and Swin return four maps, without a pyramid.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from harness import Case, Group, Step, add_linears, option_parser, peer_with, run, with_linears
from mmpretrain.models import SwinTransformer, VisionTransformer
from torch import nn

from mmvitlin.models import LION, L2ViT, SimpleFeaturePyramid

STAGES = (0, 1, 2, 3)
Size = tuple[int, int]


def hierarchical(size: Size, backbone: type[nn.Module]) -> nn.Module:
    """Build a backbone of tiny size that returns the maps of its four stages."""
    return backbone('tiny', out_indices=STAGES)


def with_pyramid(backbone: nn.Module) -> nn.Module:
    """Append a pyramid of five levels to a plain backbone of small size."""
    return nn.Sequential(backbone, SimpleFeaturePyramid(in_channels=384, num_outs=5))


def lion(size: Size, **settings) -> nn.Module:
    """Build LION-small D♮ with a pyramid."""
    return with_pyramid(LION('small', mask_type='Decay', order='S', out_type='featmap', **settings))


def deit(size: Size) -> nn.Module:
    """Build DeiT-small with a pyramid, for this image size; it uses torch's fused attention."""
    return with_pyramid(VisionTransformer('deit-small', img_size=size, out_type='featmap'))


PEER = 'DeiT-small'
MODELS = {
    'L2ViT-tiny': partial(hierarchical, backbone=L2ViT),
    'LION-small D♮': lion,
    'LION-small D♮, with_cp': partial(lion, with_cp=True),
    PEER: deit,
    'Swin-tiny': partial(hierarchical, backbone=SwinTransformer),
}
SIZES = ((512, 512), (800, 1216), (1024, 1024))


def forward_backward(build: Callable[[Size], nn.Module], size: Size, device: str) -> Step:
    """Every map of a model, and all gradients from random ones of the maps."""
    backbone = build(size).to(device)
    backbone.train()
    images = torch.randn(1, 3, *size, device=device)
    with torch.no_grad():
        gradients = [torch.randn_like(out) / out.numel() for out in backbone(images)]

    def step() -> None:
        backbone.zero_grad()
        torch.autograd.backward(backbone(images), gradients)

    return step


def groups(
    device: str, sizes: tuple[Size, ...] = SIZES, linears: Sequence[str] = ('plain',)
) -> list[Group]:
    """Every model at every size, beside DeiT-small."""
    return [
        Group(
            f'{height} x {width}',
            peer=peer_with(PEER, linears),
            cases=[
                Case(model, partial(forward_backward, build, (height, width), device))
                for model, build in with_linears(MODELS, linears).items()
            ],
        )
        for height, width in sizes
    ]


if __name__ == '__main__':
    parser = option_parser('dense_backbones', __doc__)
    add_linears(parser)
    parser.set_defaults(rounds=4, warmup=1)
    options = parser.parse_args()
    run(groups(options.device, linears=options.linears), options)
