"""L2ViT-tiny compared with mmpretrain's Swin-tiny: inference and training step, float32."""

from collections.abc import Mapping, Sequence
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
from mmpretrain.models import SwinTransformer

from mmvitlin.models import L2ViT

# Both return the normalised output of the last stage only.
MODELS = {
    'L2ViT-tiny': partial(L2ViT, 'tiny', drop_path_rate=0.1, out_indices=(3,)),
    'Swin-tiny': partial(SwinTransformer, 'tiny', drop_path_rate=0.1, out_indices=(3,)),
}
STEPS = {'inference': inference, 'training step': training}
IMAGES = {'8 x 224 x 224': (8, 3, 224, 224), '1 x 800 x 1216': (1, 3, 800, 1216)}


def groups(
    device: str,
    images: Mapping[str, tuple[int, ...]] = IMAGES,
    linears: Sequence[str] = ('plain',),
) -> list[Group]:
    """Every step at every size; `images` are shapes by the names that the table shows."""
    return [
        Group(
            f'{step_name}, {size}',
            peer=peer_with('Swin-tiny', linears),
            cases=[
                Case(name, partial(step, build_model, shape, device))
                for name, build_model in with_linears(MODELS, linears).items()
            ],
        )
        for step_name, step in STEPS.items()
        for size, shape in images.items()
    ]


if __name__ == '__main__':
    parser = option_parser('l2vit_speed', __doc__)
    add_linears(parser)
    options = parser.parse_args()
    run(groups(options.device, linears=options.linears), options)
