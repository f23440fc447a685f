"""Backbones as a detector trains them: forward and backward on one large image, float32.

Mask R-CNN's pyramid of plain vision transformers, strides 4 to 64 from one map, is measured with
them; L2ViT and Swin return their four maps as they are.
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
    """A backbone of tiny size with four stages, and a map of each."""
    return backbone('tiny', out_indices=STAGES)


def with_pyramid(backbone: nn.Module) -> nn.Module:
    """A plain backbone of small size that returns one map, and five levels made of it."""
    return nn.Sequential(backbone, SimpleFeaturePyramid(in_channels=384, num_outs=5))


def lion(size: Size, **settings) -> nn.Module:
    """LION-small D♮."""
    return with_pyramid(LION('small', mask_type='Decay', order='S', out_type='featmap', **settings))


def deit(size: Size) -> nn.Module:
    """DeiT-small, with positions for images of this size; its attention is torch's fused one."""
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
