"""Export a model as a program that runs without mmvitlin: ONNX, torch.export or TorchScript.

python tools/export.py CONFIG CHECKPOINT --format onnx --dynamic size

The program takes normalised images (B, C, H, W). A classifier and a segmentor return scores before
the softmax, the latter at the size of the images; a detector returns the maps after backbone and
neck. The program is compared with the model, also at other sizes if --dynamic leaves them free. Its
metadata have image size, mean, std, order of channels, the steps of the test pipeline, and the
names of the classes.
"""

import argparse
from pathlib import Path

from mmvitlin.engine.launcher import (
    add_cfg_options,
    existing_checkpoint,
    load_config,
    one_line_errors,
)
from mmvitlin.errors import ConfigError
from mmvitlin.export.check import check_free, compare, draw, example, latency, shapes_to_check
from mmvitlin.export.formats import FORMATS, FREE, quantise_onnx
from mmvitlin.export.parts import FEATURES, MODEL, build_deployed, evaluate


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the model')
    parser.add_argument('checkpoint', help='its checkpoint, a file or a URL')
    parser.add_argument('--format', choices=FORMATS, default='onnx', help='default: onnx')
    parser.add_argument(
        '--dynamic',
        choices=[name for name in FREE if name],
        help='leave the batch free, or batch, height and width; without it all are fixed',
    )
    parser.add_argument(
        '--part',
        choices=[MODEL, FEATURES],
        help='the whole model, or its maps after backbone and neck; default: whole if possible',
    )
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'), help='of the images')
    parser.add_argument(
        '--int8',
        action='store_true',
        help='write a second file with int8 weights (ONNX), and test both where the config says '
        'with which data',
    )
    parser.add_argument('--out', help='the file; default: beside the checkpoint')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.int8 and args.format != 'onnx':
        parser.error("--int8 is onnxruntime's: take it with --format onnx")
    if args.shape is not None and min(args.shape) < 1:
        parser.error(f'--shape takes two positive numbers of pixels, got {args.shape}')
    return args


def main() -> None:
    """Export, compare, measure."""
    args = parse_args()
    checkpoint = existing_checkpoint(args.checkpoint)
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    deployed, description = build_deployed(cfg, checkpoint, args.part)
    height, width = args.shape or description['image_size']
    description |= dict(config=Path(args.config).name, image_size=[height, width])
    form = FORMATS[args.format]
    is_url = '://' in checkpoint  # whose file goes into the current folder
    beside = Path(Path(checkpoint).name if is_url else checkpoint).with_suffix(form.suffix)
    path = Path(args.out or beside)
    if path.suffix != form.suffix:
        raise ConfigError(f'--out takes a file that ends in {form.suffix}, got {path}')

    check_free(deployed, args.dynamic)
    images = example(len(description['mean'] or 'RGB'), height, width, args.dynamic)
    form.write(form.convert(deployed, images, args.dynamic), path, description)
    program = form.read(path)
    shapes = shapes_to_check(images.shape, args.dynamic, (height, width))
    try:
        errors = compare(deployed, program, shapes)
    except ConfigError as error:
        path.unlink()
        if args.dynamic != 'size':
            raise
        hint = 'a module that fixes sizes needs --dynamic batch, or another --format'
        raise ConfigError(f'{error}; {hint}') from error
    print(f'{path}: {path.stat().st_size / 1e6:.2f} MB')
    for shape, error in zip(shapes, errors):
        print(f'images {" x ".join(map(str, shape))}: {error:.1e} from the model')
    one = draw((images.shape[0] if args.dynamic is None else 1, *images.shape[1:]))
    print(f'one image: model {show(latency(deployed, one))}, program {show(latency(program, one))}')
    if args.int8:
        to = path.with_suffix('.int8.onnx')
        quantise_onnx(path, to)
        quantised = form.read(to)
        share = to.stat().st_size / path.stat().st_size
        print(f'{to}: {to.stat().st_size / 1e6:.2f} MB, {share:.2f} of the size')
        print(f'one image: {show(latency(quantised, one))}')
        if cfg.get('test_dataloader') and cfg.get('test_evaluator'):
            for name, each in ((path.name, program), (to.name, quantised)):
                for metric, value in evaluate(cfg, deployed, each).items():
                    print(f'{name} {metric}: {value:.4g}')
        else:
            print('the config has no test data: accuracy not measured')


def show(seconds: float) -> str:
    """Format a time."""
    return f'{seconds * 1e3:.1f} ms'


if __name__ == '__main__':
    with one_line_errors():
        main()
