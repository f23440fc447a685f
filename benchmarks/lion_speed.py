"""LION-small compared with mmpretrain's DeiT-small: training step and inference, float32.

Natural orders, which sum two scans, are measured at the large size too.
"""

from collections.abc import Sequence
from functools import partial

from harness import (
    Case,
    Group,
    add_linears,
    inference,
    option_parser,
    peer_with,
    run,
    training,
    with_linears,
)
from mmpretrain.models import VisionTransformer
from torch import nn

from mmvitlin.models import LION


def lion(img_size: int, **settings) -> nn.Module:
    """LION-small, which has no positions; its variants see images of any size."""
    return LION('small', img_size=img_size, **settings)


def deit(img_size: int) -> nn.Module:
    """Build DeiT-small with positions for images of `img_size`."""
    return VisionTransformer('deit-small', img_size=img_size)


PEER = 'DeiT-small'
MODELS = {
    'LION-Lit': partial(lion, mask_type='Lit'),
    'LION-D': partial(lion, mask_type='Decay'),
    'LION-S': partial(lion, mask_type='Selective'),
    'LION-D♮': partial(lion, mask_type='Decay', order='S'),
    'LION-S♮': partial(lion, mask_type='Selective', order='S'),
    PEER: deit,
}


def groups(
    device: str,
    batch: int = 8,
    side: int = 224,
    large: int = 1024,
    linears: Sequence[str] = ('plain',),
) -> list[Group]:
    """List a training step at the usual size, and inference there and at a large one."""
    settings = (
        ('training step', training, (batch, 3, side, side)),
        ('inference', inference, (batch, 3, side, side)),
        ('inference', inference, (1, 3, large, large)),
    )
    return [
        Group(
            f'{name}, {shape[0]} x {shape[2]} x {shape[3]}',
            peer=peer_with(PEER, linears),
            cases=[
                Case(model, partial(step, partial(build, shape[2]), shape, device))
                for model, build in with_linears(MODELS, linears).items()
            ],
        )
        for name, step, shape in settings
    ]


if __name__ == '__main__':
    parser = option_parser('lion_speed', __doc__)
    add_linears(parser)
    options = parser.parse_args()
    run(groups(options.device, linears=options.linears), options)
