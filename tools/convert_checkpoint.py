"""Convert an original checkpoint to one that loads strictly in the model of its config.

SRC holds a state dict, bare or under 'model' or 'state_dict', the weights' moving average under
'model_ema'; a checkpoint of our own training is taken as well, to be given another head or to be
stripped to its weights. DST gets dict(meta=..., state_dict=...), tensors in the dtype they had.

YOLOS is a detector: its classes become COCO's 80, and DST loads in mmdetection's model.
"""

import argparse
from pathlib import Path

import torch

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.checkpoints.convert import convert_checkpoint
from mmvitlin.checkpoints.converters import CONVERTERS
from mmvitlin.engine.launcher import one_line_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('system', choices=CONVERTERS, help='the system of the checkpoint')
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
    for option, where in (('--img-size', 'before the first layer'), ('--mid-img-size', 'between')):
        parser.add_argument(
            option,
            nargs=2,
            type=int,
            metavar=('H', 'W'),
            help=f'yolos: image size of the position embedding {where}, where SRC does not name it',
        )
    parser.add_argument('--force', action='store_true', help='overwrite DST')
    args = parser.parse_args()
    zoo = CONVERTERS[args.system].arch_zoo()
    if args.arch is not None and args.arch not in zoo:
        parser.error(f'{args.system} has no arch {args.arch!r}; choose from {", ".join(zoo)}')
    sized = CONVERTERS[args.system].read_sizes is not None
    if not sized and (args.img_size or args.mid_img_size):
        parser.error(f'{args.system} takes no --img-size and --mid-img-size, which are for yolos')
    if sized and args.class_index:
        parser.error(f'{args.system} takes no --class-index, which is for classifiers')
    if args.dst.is_dir():
        parser.error(f'{args.dst} is a folder; give the name of a file')
    if args.dst.exists() and not args.force:
        parser.error(f'{args.dst} is there already; --force overwrites it')
    return args


def main() -> None:
    """Convert."""
    args = parse_args()
    converted = convert_checkpoint(
        args.system,
        args.src,
        args.arch,
        args.ema,
        args.class_index,
        args.img_size,
        args.mid_img_size,
    )
    with atomic_write(args.dst) as partial:
        torch.save(converted.checkpoint, partial)
    for note in converted.notes:
        print(f'{args.dst}: {note}')


if __name__ == '__main__':
    with one_line_errors():
        main()
