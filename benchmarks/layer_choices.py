"""Choices of ours, each against the plain form that it stands in for.

On L2ViT-tiny's shapes:

Linear layers: `mmvitlin.layers.OneDNNLinear` against `nn.Linear`, on the two of an MLP.
Depthwise convolutions: `mmvitlin.layers.depthwise_conv.DepthwiseConv` on (B, H, W, C) against the
same `nn.Conv2d` on contiguous (B, C, H, W), without the copies that it would take to get there.

Token label targets: those of LV-ViT at 224 x 224, from five of 1000 classes on maps of 18 x 18,
against torchvision's RoIAlign on maps of all classes.
"""

from collections.abc import Callable
from functools import partial

import torch
from harness import Case, Group, Step, option_parser, run
from torch import nn

from mmvitlin.layers import DepthwiseConv, OneDNNLinear
from mmvitlin.ops.token_labels import token_label_targets, token_label_targets_naive

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
    """Every layer of every stage, forwards and with its gradients, and the targets of a batch."""
    layers = [
        make_group(*numbers, step_name, device, batch)
        for make_group, kinds in ((linear_group, LINEARS), (depthwise_group, KERNELS))
        for step_name in STEPS
        for numbers in ((stage, kind) for stage in STAGES for kind in kinds)
    ]
    return [*layers, targets_group(device, 4 * batch)]


def targets_group(device: str, batch: int) -> Group:
    """Token label targets of a batch, by both forms."""
    forms = {'matrices': token_label_targets, 'RoIAlign': token_label_targets_naive}
    return Group(
        f'token label targets of {batch} images',
        peer='RoIAlign',
        cases=[
            Case(name, partial(make_targets, form, batch, device)) for name, form in forms.items()
        ],
    )


def make_targets(form: Callable, batch: int, device: str) -> Step:
    """Make the targets of random crops, from maps of 40 classes each."""
    scores = torch.randn(batch, 5, 18, 18, device=device)
    classes = torch.rand(batch, 40, 18, 18, device=device).argsort(1)[:, :5]
    maps = torch.stack([scores, classes.float()], 1)
    boxes = torch.cat([torch.rand(batch, 2) / 2, torch.rand(batch, 2) / 2 + 0.01], 1).to(device)
    return lambda: form(maps, boxes, 1000, 14)


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
            Case('OneDNNLinear', partial(step, partial(OneDNNLinear, in_features, out_features))),
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
