"""Token expansion: DeiT-small's training step at each stage, and a whole training on digits.

A stage is compared with dense training, and with a step that drops all but the first tokens to get
the same number: the difference between the two is the cost of selecting and merging. On digits, the
trainings with and without token expansion run in two processes that alternate epoch by epoch.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from harness import ROOT, Case, Group, Step, option_parser, run, training, write_json
from mmpretrain.models import VisionTransformer
from torch import nn
from trainings import add_options, compare_trainings

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.ops.token_expansion import select_tokens, step_sizes

SETTINGS = ((0.5, 0.75, 1.0), 0.25, 2, 'cosine')
STAGES = (1, 2)  # stage 3 keeps every token
DEIT = dict(arch='deit-small', img_size=224, patch_size=16, drop_path_rate=0.1)
DIGITS = {
    'baseline': ROOT / 'configs/quickstart/vit-micro_1xb64_digits.py',
    'token expansion': ROOT / 'configs/quickstart/vit-micro_toe_1xb64_digits.py',
}


# Steps


def expanded(stage: int, **settings) -> nn.Module:
    """Build a vision transformer at a stage of token expansion."""
    model = VisionTransformer(**settings)
    hook = TokenExpansionHook(expansion_step=(0, 1, 2))
    hook.attach(model)
    hook.set_epoch(stage - 1)
    return model


def cut(stage: int, **settings) -> nn.Module:
    """Build a vision transformer that keeps the first tokens only, as many as at a stage."""
    model = VisionTransformer(**settings)
    patches = model.patch_resolution[0] * model.patch_resolution[1]
    length = model.num_extra_tokens + sum(step_sizes(patches, stage, *SETTINGS[:-1]))
    model.layers[1].register_forward_pre_hook(lambda _, inputs: (inputs[0][:, :length],))
    return model


def selection(stage: int, shape: tuple[int, ...], device: str) -> Step:
    """Create a step that only selects tokens and assigns the others to them."""
    tokens = torch.randn(*shape, device=device)
    return lambda: select_tokens(tokens[:, 1:], stage, *SETTINGS)


def all_similarities(shape: tuple[int, ...], device: str) -> Step:
    """Create a step that compares every patch token with every other one, once."""
    tokens = torch.randn(*shape, device=device)

    def step() -> torch.Tensor:
        patches = F.normalize(tokens[:, 1:], dim=-1)
        return patches @ patches.transpose(-2, -1)

    return step


def groups(device: str, batch: int = 16, **deit) -> list[Group]:
    """Compare training steps of the stages, and selections. `deit` changes the model."""
    settings = {**DEIT, **deit}
    model = VisionTransformer(**settings)
    length, width = model.pos_embed.shape[1:]
    images = (batch, 3, *model.img_size)
    builds: dict[str, Callable[[], nn.Module]] = {'dense': partial(VisionTransformer, **settings)}
    for stage in STAGES:
        builds[f'stage {stage}'] = partial(expanded, stage, **settings)
        builds[f'cut as at stage {stage}'] = partial(cut, stage, **settings)
    tokens = dict(shape=(batch, length, width), device=device)
    return [
        Group(
            f'training step, {" x ".join(map(str, images))}',
            peer='dense',
            cases=[
                Case(name, partial(training, build_model, images, device))
                for name, build_model in builds.items()
            ],
        ),
        Group(
            f'selection, {batch} x {length} x {width}',
            peer='all similarities',
            cases=[
                Case('all similarities', partial(all_similarities, **tokens)),
                *(Case(f'stage {stage}', partial(selection, stage, **tokens)) for stage in STAGES),
            ],
        ),
    ]


def compare_with_cutting(report: dict) -> list[str]:
    """Summarise the training steps of each stage in a line."""
    lines = []
    for group in report['groups']:
        seconds = {case['name']: np.array(case['seconds_of_rounds']) for case in group['cases']}
        for stage in STAGES:
            if {'dense', f'cut as at stage {stage}'} <= seconds.keys():
                step = seconds[f'stage {stage}']
                faster = np.median(seconds['dense'] / step)
                price = np.median(step / seconds[f'cut as at stage {stage}'])
                lines.append(
                    f'stage {stage}: {faster:.3f} times faster than dense, '
                    f'{price:.3f} of the time of cutting'
                )
    return lines


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = option_parser('token_expansion', __doc__)
    parser.add_argument(
        '--parts', nargs='+', choices=['steps', 'digits'], default=['steps', 'digits']
    )
    add_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse_args()
    report = {}
    if 'steps' in options.parts:
        report = run(groups(options.device), options)
        print()
        print('\n'.join(compare_with_cutting(report)))
    if 'digits' in options.parts:
        report['digits'] = compare_trainings(DIGITS, 'baseline', options)
        write_json(report, options.out)


if __name__ == '__main__':
    main()
