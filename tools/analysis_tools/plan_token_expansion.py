"""Plan a training whose tokens or images grow: the compute of each stage, and the speed-up.

The config trains with mmvitlin.TokenExpansionHook, mmvitlin.EfficientTrainHook, or both. Nothing is
trained, and no data is read. Without EfficientTrain, images have the backbone's img_size.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.curricula.hook import plan_config
from mmvitlin.curricula.plan import PlannedStage
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors

matplotlib.use('Agg')
import matplotlib.pyplot as plt


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='the config of the training')
    parser.add_argument(
        '--out', type=Path, help='the picture; token_expansion_plan.png in the work directory'
    )
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Print and draw."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options, work_dir=None)
    plan = plan_config(cfg)
    length = cfg.train_cfg.get('max_epochs') or 1
    path = args.out or Path(cfg.work_dir) / 'token_expansion_plan.png'

    print(table(plan.stages, length))
    print(f'in all {plan.compute:.3f} of the compute of a dense training')
    print(f'the whole training is at most {1 / plan.compute:.3f} times faster than a dense one')
    print('GFLOPs: multiply-adds of matrix products and convolutions, one image forward')
    title = f'{Path(args.config).stem}: at most {1 / plan.compute:.3f}x faster'
    draw(plan.stages, length, title, path)
    print(f'drawn to {path}')


def table(stages: Sequence[PlannedStage], length: float) -> str:
    """Format a line per stage; 'dense' is all tokens of the largest images."""
    rows = [('stage', 'from', 'share', 'tokens', 'size', 'GFLOPs', 'of dense', 'faster')]
    for stage in stages:
        row = (
            stage.expansion_stage,
            f'{stage.begin * length:.4g}',
            f'{stage.share:.1%}',
            stage.cost.num_tokens or '-',
            '{} x {}'.format(*stage.image_size),
            f'{stage.cost.multiply_adds / 1e9:.3f}',
            f'{stage.compute:.3f}',
            f'{1 / stage.compute:.2f}x',
        )
        rows.append(tuple(map(str, row)))
    return '\n'.join('  '.join(f'{cell:>9}' for cell in row) for row in rows)


def draw(stages: Sequence[PlannedStage], length: float, title: str, path: Path) -> None:
    """Draw the compute of each stage over the training, against the dense one's."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout='constrained')
    axis.fill_between([0, length], 1, color='tab:orange', alpha=0.25, label='saved')
    for stage in stages:
        begin, width = stage.begin * length, stage.share * length
        axis.bar(begin, stage.compute, width, align='edge', color='tab:blue', edgecolor='white')
        lines = [f'{stage.image_size[0]} px', f'{stage.compute:.3f}']
        if stage.cost.num_tokens:
            lines.insert(1, f'{stage.cost.num_tokens} tokens')
        axis.text(
            begin + width / 2,
            stage.compute / 2,
            '\n'.join(lines),
            ha='center',
            va='center',
            color='white',
            fontsize=min(10, 80 * stage.share),
        )
    axis.set_xlim(0, length)
    axis.set_ylim(0, 1.05)
    axis.set_xlabel('epoch' if length > 1 else 'fraction of the training')
    axis.set_ylabel('compute of a step / of a dense one')
    axis.legend(loc='lower right')
    axis.set_title(title)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120, format=path.suffix[1:] or 'png')
    plt.close(figure)


if __name__ == '__main__':
    with one_line_errors():
        main()
