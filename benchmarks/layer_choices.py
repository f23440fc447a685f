"""Two choices of ours on L2ViT-tiny's shapes, each against the plain layer it stands in for.

Linear layers: `mmvitlin.layers.linear.Linear` against `nn.Linear`, on the two of an MLP.
Depthwise convolutions: `mmvitlin.layers.depthwise_conv.DepthwiseConv` on (B, H, W, C) against the
same `nn.Conv2d` on contiguous (B, C, H, W), without the copies that it would take to get there.
"""

from collections.abc import Callable
from functools import partial

import torch
from harness import Case, Group, Step, option_parser, run
from torch import nn

from mmvitlin.layers.depthwise_conv import DepthwiseConv
from mmvitlin.layers.linear import Linear

BATCH = 8
STAGES = {1: (56, 96), 2: (28, 192), 3: (14, 384), 4: (7, 768)}  # side and width at 224 x 224
LINEARS = {'fc1': (1, 4), 'fc2': (4, 1)}  # channels in and out, in widths of the stage
KERNELS = (3, 7)  # of the position encodings and of the local concentration


def forward(build_layer: Callable[[], nn.Module], shape: tuple[int, ...], device: str) -> Step:
    """Create a step: a forward pass on a random input, without gradients."""
    layer = build_layer().to(device)
    x = torch.randn(*shape, device=device)
    return torch.inference_mode()(lambda: layer(x))


def forward_backward(
    build_layer: Callable[[], nn.Module], shape: tuple[int, ...], device: str
) -> Step:
    """Create a step: forward, and the gradients of input and parameters."""
    layer = build_layer().to(device)
    x = torch.randn(*shape, device=device, requires_grad=True)
    gradient = torch.randn_like(layer(x))
    return lambda: torch.autograd.grad(layer(x), [x, *layer.parameters()], gradient)


STEPS = {'forward': forward, 'forward and backward': forward_backward}


def groups(device: str, batch: int = BATCH) -> list[Group]:
    """Compare the layers of every stage, in forward passes and with gradients."""
    return [
        make_group(*numbers, step_name, device, batch)
        for make_group, kinds in ((linear_group, LINEARS), (depthwise_group, KERNELS))
        for step_name in STEPS
        for numbers in ((stage, kind) for stage in STAGES for kind in kinds)
    ]


def linear_group(stage: int, kind: str, step_name: str, device: str, batch: int) -> Group:
    """Compare linear layers on the tokens of a stage."""
    side, width = STAGES[stage]
    in_features, out_features = (width * factor for factor in LINEARS[kind])
    shape = (batch, side, side, in_features)
    step = partial(STEPS[step_name], shape=shape, device=device)
    return Group(
        f'{kind} of stage {stage}, {step_name}, {in_features} -> {out_features} channels',
        peer='nn.Linear',
        cases=[
            Case('Linear', partial(step, partial(Linear, in_features, out_features))),
            Case('nn.Linear', partial(step, partial(nn.Linear, in_features, out_features))),
        ],
    )


def depthwise_group(stage: int, kernel: int, step_name: str, device: str, batch: int) -> Group:
    """Compare depthwise convolutions on maps with channels last and channels first."""
    side, width = STAGES[stage]
    step = partial(STEPS[step_name], device=device)
    conv = partial(nn.Conv2d, width, width, kernel, padding=kernel // 2, groups=width)
    return Group(
        f'{kernel} x {kernel} depthwise of stage {stage}, {step_name}, {width} channels',
        peer='nn.Conv2d',
        cases=[
            Case(
                'DepthwiseConv',
                partial(step, partial(DepthwiseConv, width, kernel), (batch, side, side, width)),
            ),
            Case('nn.Conv2d', partial(step, conv, (batch, width, side, side))),
        ],
    )


if __name__ == '__main__':
    options = option_parser('layer_choices', __doc__).parse_args()
    run(groups(options.device), options)
