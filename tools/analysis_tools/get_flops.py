"""Print the multiply-adds and parameters of a config's model, by module.

One image of --shape runs through the whole model, heads included, in evaluation mode and without
post-processing. The weights are random: a two-stage detector's region heads then see as many
proposals as its region proposal network lets through, 1000 at most with the usual settings.
"""

import argparse
from functools import partial

import torch
from mmengine.analysis import parameter_count
from mmengine.analysis.print_helper import complexity_stats_table
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import BaseDataElement

from mmvitlin.engine.flops import analyze_flops
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors

SHAPES = {'mmpretrain': (224, 224), 'mmdet': (800, 1280), 'mmseg': (512, 512)}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the model')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='of the image in pixels; by default '
        + ', '.join(f'{h} {w} for {host}' for host, (h, w) in SHAPES.items()),
    )
    parser.add_argument('--depth', type=int, default=3, help='levels of modules in the table')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.shape is not None and min(args.shape) < 1:
        parser.error(f'--shape takes two positive numbers of pixels, got {args.shape}')
    return args


def main() -> None:
    """Print."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    height, width = args.shape or SHAPES[cfg.default_scope]
    image = BaseDataElement(
        metainfo=dict.fromkeys(
            ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), (height, width)
        )
    )
    image.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    model.forward = partial(model.forward, data_samples=[image])  # mode='tensor' is its default
    channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
    flops = analyze_flops(model, (torch.randn(1, channels, height, width),))
    print(complexity_stats_table(flops, max_depth=args.depth, show_param_shapes=False))
    print(f'input {height} x {width}')
    print(f'FLOPs {flops.total() / 1e9:.5g} G (multiply-adds)')
    print(f'parameters {parameter_count(model)[""] / 1e6:.5g} M')
    print(f'not counted: {", ".join(sorted(flops.unsupported_ops()))}')


if __name__ == '__main__':
    with one_line_errors():
        main()
