"""EfficientTrain: the low-frequency crop of a batch, and a whole training on digits.

The crop is set against bicubic resizing, by which images are usually made smaller. Digits are
trained with and without the curriculum, an epoch of each in turn, each in a process of its own.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import ROOT, Case, Group, Step, option_parser, run, write_json
from torch import Tensor
from trainings import add_options, compare_trainings

from mmvitlin.ops import low_frequency_crop

DIGITS = {
    'baseline': ROOT / 'configs/quickstart/vit-micro_1xb64_digits-28px.py',
    'EfficientTrain': ROOT / 'configs/quickstart/vit-micro_efftrain_1xb64_digits-28px.py',
}


def resize(images: Tensor, size: int) -> Tensor:
    """Resize images by bicubic interpolation with an antialiasing filter."""
    return F.interpolate(images, size=(size, size), mode='bicubic', antialias=True)


FORMS: dict[str, Callable[[Tensor, int], Tensor]] = {
    'low-frequency crop': low_frequency_crop,
    'bicubic resizing': resize,
}


def cropping(form: str, shape: tuple[int, ...], size: int, device: str) -> Step:
    """Create a step that makes a batch smaller."""
    images = torch.randn(*shape, device=device)
    return lambda: FORMS[form](images, size)


def groups(device: str, batch: int = 16) -> list[Group]:
    """Crop a batch of ImageNet and one of digits to the first sizes of their curricula."""
    return [
        Group(
            f'{batch} x 3 x {side} x {side} to {size} x {size}',
            peer='bicubic resizing',
            cases=[
                Case(form, partial(cropping, form, (batch, 3, side, side), size, device))
                for form in FORMS
            ],
        )
        for side, size in ((224, 160), (224, 192), (28, 20))
    ]


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser('efficient_train', __doc__)
    parser.add_argument(
        '--parts', nargs='+', choices=['crop', 'digits'], default=['crop', 'digits']
    )
    add_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse_args()
    report = {}
    if 'crop' in options.parts:
        report = run(groups(options.device), options)
    if 'digits' in options.parts:
        report['digits'] = compare_trainings(DIGITS, 'baseline', options)
        write_json(report, options.out)


if __name__ == '__main__':
    main()
