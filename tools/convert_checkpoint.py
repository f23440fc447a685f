"""Convert an original checkpoint to one that loads strictly in the classifier of its config.

SRC holds a state dict, bare or under 'model' or 'state_dict', the weights' moving average under
'model_ema'; a checkpoint of our own training is taken as well, to be given another head or to be
stripped to its weights. DST gets dict(meta=..., state_dict=...), tensors in the dtype they had.
"""

import argparse
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmvitlin import __version__
from mmvitlin.checkpoints.atomic_backend import AtomicLocalBackend
from mmvitlin.checkpoints.deit import (
    convert_deit,
    is_distilled,
    read_deit_arch,
    read_deit_settings,
)
from mmvitlin.checkpoints.head_rows import find_duplicates, read_class_index, select_head_rows
from mmvitlin.checkpoints.l2vit import convert_l2vit, read_l2vit_arch
from mmvitlin.checkpoints.lion import convert_lion, read_lion_arch, read_lion_settings
from mmvitlin.checkpoints.lvvit import convert_lvvit, read_lvvit_arch, read_lvvit_settings
from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import compare, describe, extract_state_dict
from mmvitlin.checkpoints.vit_llama import (
    convert_vit_llama,
    read_vit_llama_arch,
    read_vit_llama_settings,
)
from mmvitlin.engine.launcher import one_line_errors
from mmvitlin.errors import CheckpointError
from mmvitlin.models import LION, L2ViT, LVViT, TokenLabelHead, ViTLLaMA


def linear_head(weights: dict[str, Tensor], num_classes: int, width: int) -> nn.Module:
    """Build mmpretrain's linear head."""
    return nn.ModuleDict({'fc': nn.Linear(width, num_classes)})


class System(NamedTuple):
    """What one kind of checkpoint needs."""

    convert: Callable[[dict], dict]  # the original's names -> ours
    read_arch: Callable[[dict], dict]  # converted weights -> `arch` of the backbone
    arch_zoo: dict[str, dict]
    backbone: Callable[[str | dict, dict], nn.Module]  # of an arch, for converted weights
    head: Callable[[dict, int, int], nn.Module] = linear_head  # of so many classes and channels
    guessed: tuple[str, ...] = ()  # what of an arch outside of the zoo leaves no trace


def l2vit(arch: str | dict, weights: dict[str, Tensor]) -> nn.Module:
    """Build the backbone of an arch."""
    return L2ViT(arch)


def lion(arch: str | dict, weights: dict[str, Tensor]) -> nn.Module:
    """Build the backbone of an arch, with the decay, the scans and the patches of `weights`."""
    return LION(arch, **read_lion_settings(weights))


def lvvit(arch: str | dict, weights: dict[str, Tensor]) -> nn.Module:
    """Build the backbone of an arch, with the patches of `weights`."""
    return LVViT(arch, **read_lvvit_settings(weights))


def token_label_head(weights: dict[str, Tensor], num_classes: int, width: int) -> nn.Module:
    """Build LV-ViT's head."""
    return TokenLabelHead(num_classes, width)


def deit(arch: str | dict, weights: dict[str, Tensor]) -> nn.Module:
    """Build mmpretrain's backbone of an arch, with a distillation token if `weights` have one."""
    from mmpretrain.models import DistilledVisionTransformer, VisionTransformer  # takes seconds

    kind = DistilledVisionTransformer if is_distilled(weights) else VisionTransformer
    return kind(arch, **read_deit_settings(weights))


def deit_head(weights: dict[str, Tensor], num_classes: int, width: int) -> nn.Module:
    """Build the linear head, or that of two tokens."""
    from mmpretrain.models import DeiTClsHead

    if is_distilled(weights):
        return DeiTClsHead(num_classes, width)
    return linear_head(weights, num_classes, width)


def vit_llama(arch: str | dict, weights: dict[str, Tensor]) -> nn.Module:
    """Build the backbone of an arch, holding a block of LLaMA where `weights` have one."""
    settings = read_vit_llama_settings(weights)
    backbone = ViTLLaMA(arch, **settings | dict(llama=settings['llama'] | dict(save=True)))
    backbone.llama.take_from(weights, 'backbone.llama.')
    return backbone


# mmpretrain's names of DeiT's sizes, which are those of ViT-LLaMA's transformer.
DEIT_ARCH_ZOO = {f'deit-{name}': settings for name, settings in ViTLLaMA.arch_zoo.items()}
SYSTEMS = {
    'deit': System(
        convert_deit, read_deit_arch, DEIT_ARCH_ZOO, deit, deit_head, guessed=('num_heads',)
    ),
    'l2vit': System(convert_l2vit, read_l2vit_arch, L2ViT.arch_zoo, l2vit),
    'lion': System(convert_lion, read_lion_arch, LION.arch_zoo, lion),
    'lvvit': System(
        convert_lvvit,
        partial(read_lvvit_arch, arch_zoo=LVViT.arch_zoo),
        LVViT.arch_zoo,
        lvvit,
        token_label_head,
        guessed=('num_heads', 'skip_lam'),
    ),
    'vit-llama': System(
        convert_vit_llama,
        read_vit_llama_arch,
        ViTLLaMA.arch_zoo,
        vit_llama,
        guessed=('num_heads',),
    ),
}
WEIGHTS, EMA_WEIGHTS = ('model', 'state_dict'), ('model_ema', 'state_dict_ema')
DENSE_TASKS = {
    'decode_head.': 'segmentation',
    'rpn_head.': 'detection',
    'roi_head.': 'detection',
    'bbox_head.': 'detection',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('system', choices=SYSTEMS, help='what the checkpoint is of')
    parser.add_argument('src', metavar='SRC', help='the checkpoint to convert, a file or a URL')
    parser.add_argument('dst', metavar='DST', type=Path, help='the file to write')
    parser.add_argument(
        '--arch', help='refuse a checkpoint of another size; by default its shapes tell the size'
    )
    parser.add_argument(
        '--ema', action='store_true', help="take the moving average, under 'model_ema'"
    )
    parser.add_argument(
        '--class-index',
        metavar='FILE',
        help='make a head of 1000 classes: line i of FILE is the index, in SRC, of new class i',
    )
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    args = parser.parse_args()
    zoo = SYSTEMS[args.system].arch_zoo
    if args.arch is not None and args.arch not in zoo:
        parser.error(f'{args.system} has no arch {args.arch!r}; choose from {", ".join(zoo)}')
    if args.dst.is_dir():
        parser.error(f'{args.dst} is a folder; give the name of a file')
    if args.dst.exists() and not args.force:
        parser.error(f'{args.dst} is there already; --force overwrites it')
    return args


def read_weights(source: str, ema: bool) -> tuple[dict[str, Tensor], str]:
    """Read a classifier's weights; return them and what they are.

    Raises:
        CheckpointError: there are none, no moving average where one is asked for, or they are a
            detector's or a segmentor's.
    """
    loaded = load_checkpoint(source)
    keys = list(loaded) if isinstance(loaded, dict) else []
    averaged, plain = (next((k for k in w if k in keys), None) for w in (EMA_WEIGHTS, WEIGHTS))
    if ema and averaged is None:
        raise CheckpointError(
            f'{source} has no moving average of the weights ({" or ".join(EMA_WEIGHTS)}) among its '
            f'keys {keys[:8]}; leave --ema out'
        )
    key = averaged if ema or plain is None else plain
    weights = extract_state_dict(loaded, source, (key,) if key else WEIGHTS)
    for prefix, task in DENSE_TASKS.items():
        if any(name.startswith(prefix) for name in weights):
            raise CheckpointError(
                f'{source} is a {task} checkpoint, with weights such as {prefix}*; classifiers are '
                'converted, so give the one that its training started from'
            )
    return weights, f'weights under {key!r}' if key else 'weights of a bare state dict'


def check(weights: dict[str, Tensor], system: System, arch: str | None) -> tuple[str | dict, int]:
    """Check that converted weights load strictly; return their arch and number of classes.

    Raises:
        CheckpointError: they are not those of a classifier of the arch, with what differs.
    """
    read = system.read_arch(weights)
    named = next((name for name, settings in system.arch_zoo.items() if settings == read), read)
    head = (len(value) for name, value in weights.items() if name.startswith('head.'))
    num_classes = next(head, 1000)
    with torch.device('meta'):
        backbone = system.backbone(arch or named, weights)
        widths = backbone.embed_dims
        width = widths if isinstance(widths, int) else widths[-1]
        head = system.head(weights, num_classes, width)
        classifier = nn.ModuleDict({'backbone': backbone, 'head': head})
    differences = compare(weights, classifier.state_dict())
    if differences:
        shapes = f'; its shapes are those of arch {named}' if arch else ''
        raise CheckpointError(f'against arch {arch or named}, {describe(differences)}{shapes}')
    return arch or named, num_classes


def main() -> None:
    """Convert."""
    args = parse_args()
    system = SYSTEMS[args.system]
    weights, kind = read_weights(args.src, args.ema)
    try:
        converted = system.convert(weights)
        arch, num_classes = check(converted, system, args.arch)
    except ValueError as error:  # a backbone refuses widths and heads that do not go together
        raise CheckpointError(f'{args.src} is not a classifier of {args.system}: {error}') from None
    if args.class_index:
        rows = read_class_index(args.class_index, num_classes)
        for row, lines in find_duplicates(rows).items():
            print(f'{args.class_index}: class {row} is taken by several lines: {lines}')
        converted, num_classes = select_head_rows(converted, rows), len(rows)
    meta = dict(
        mmvitlin_version=__version__,
        system=args.system,
        arch=arch,
        num_classes=num_classes,
        source=f'{Path(args.src).name}, {kind}',
    )
    content = io.BytesIO()
    torch.save(dict(meta=meta, state_dict=converted), content)
    AtomicLocalBackend().put(content.getvalue(), args.dst)
    print(
        f'{args.dst}: {len(converted)} tensors of {args.system}, arch {arch}, {num_classes} '
        f'classes, from the {kind}'
    )
    if system.guessed and isinstance(arch, dict):  # not one of the zoo, which a name stands for
        print(
            f'{" and ".join(system.guessed)} of this arch leave no trace in weights and are '
            'guesses: build the model with those that it was trained with'
        )


if __name__ == '__main__':
    with one_line_errors():
        main()
