"""LION-small compared with mmpretrain's DeiT-small: training step and inference, float32.

Natural orders, which sum two scans, are measured at the large size too.
"""

from functools import partial

from harness import Case, Group, inference, option_parser, run, training
from mmpretrain.models import VisionTransformer
from torch import nn

from mmvitlin.models import LION

PEER = 'DeiT-small'
MODELS = {
    'LION-Lit': dict(mask_type='Lit'),
    'LION-D': dict(mask_type='Decay'),
    'LION-S': dict(mask_type='Selective'),
    'LION-D♮': dict(mask_type='Decay', order='S'),
    'LION-S♮': dict(mask_type='Selective', order='S'),
}


def lion(**settings) -> nn.Module:
    """Build LION-small."""
    return LION('small', **settings)


def deit(img_size: int) -> nn.Module:
    """Build DeiT-small with positions for images of `img_size`."""
    return VisionTransformer('deit-small', img_size=img_size)


def groups(device: str, batch: int = 8, side: int = 224, large: int = 1024) -> list[Group]:
    """Compare a training step at the usual size, and inference there and at a large size."""
    settings = (
        ('training step', training, (batch, 3, side, side)),
        ('inference', inference, (batch, 3, side, side)),
        ('inference', inference, (1, 3, large, large)),
    )
    return [
        Group(
            f'{name}, {shape[0]} x {shape[2]} x {shape[3]}',
            peer=PEER,
            cases=[
                *(
                    Case(model, partial(step, partial(lion, **kwargs), shape, device))
                    for model, kwargs in MODELS.items()
                ),
                Case(PEER, partial(step, partial(deit, shape[2]), shape, device)),
            ],
        )
        for name, step, shape in settings
    ]


if __name__ == '__main__':
    options = option_parser('lion_speed', __doc__).parse_args()
    run(groups(options.device), options)
