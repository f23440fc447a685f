"""Print the multiply-adds and parameters of a config's model, by module.

One image runs through the whole model, heads included, in evaluation mode and without
post-processing, on the meta device. The region heads of a two-stage detector get as many proposals
as its test settings allow, 1000 by default.
"""

import argparse

from mmengine.analysis import parameter_count
from rich import box
from rich.console import Console
from rich.table import Table

from mmvitlin.engine.cost import ModelCost, count_config
from mmvitlin.engine.hosts import HOSTS
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors


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
        help='size of the image in pixels; by default the size that the config tests on, or '
        + ', '.join(
            '{} {} for {}'.format(*host.default_image_size, name) for name, host in HOSTS.items()
        ),
    )
    parser.add_argument('--depth', type=int, default=3, help='levels of modules in the table')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.shape is not None and min(args.shape) < 1:
        parser.error(f'--shape takes two positive numbers of pixels, got {args.shape}')
    return args


def table_of(cost: ModelCost, depth: int) -> Table:
    """Make a table of the modules of a model that cost something, down to a depth."""
    table = Table(box=box.ASCII2)
    table.add_column('module', no_wrap=True)
    table.add_column('parameters', justify='right')
    table.add_column('FLOPs', justify='right')
    parameters = parameter_count(cost.model)
    for name, _ in cost.model.named_modules():
        level = name.count('.') + 1 if name else 0
        flops = cost.flops.by_module[name]
        if level <= depth and (parameters[name] or flops):
            columns = (with_unit(number) if number else '' for number in (parameters[name], flops))
            table.add_row(' ' * level + (name or 'model'), *columns)
    return table


def with_unit(number: int) -> str:
    """Format a number with four digits and a unit: 4688209920 is 4.688G."""
    for unit, size in (('G', 1e9), ('M', 1e6), ('K', 1e3)):
        if number >= size:
            return f'{number / size:.4g}{unit}'
    return str(number)


def main() -> None:
    """Print."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    cost = count_config(cfg, args.shape)
    Console(width=200).print(table_of(cost, args.depth))
    height, width = cost.shape
    print(f'input {height} x {width}')
    print(f'FLOPs {cost.flops.total / 1e9:.5g} G (multiply-adds)')
    print(f'parameters {cost.parameters / 1e6:.5g} M')
    if cost.frozen_outside:
        print(f'and {cost.frozen_outside / 1e6:.5g} M frozen weights outside of the module tree')


if __name__ == '__main__':
    with one_line_errors():
        main()
