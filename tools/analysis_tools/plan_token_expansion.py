"""What a training costs whose tokens or images grow, phase by phase, and how fast it can get.

The config trains with mmvitlin.TokenExpansionHook, mmvitlin.EfficientTrainHook, or both. Nothing is
trained, and no data is read. Without the curriculum of EfficientTrain, images have the size that
the backbone was built for.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from mmengine.registry import MODELS, init_default_scope

from mmvitlin.engine import EfficientTrainHook, TokenExpansionHook
from mmvitlin.engine.hooks.from_config import build_hook
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors
from mmvitlin.engine.token_sequence import find_backbone
from mmvitlin.engine.training_plan import Phase, compute_ratio, plan_training
from mmvitlin.errors import ConfigError

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
    init_default_scope(cfg.default_scope)
    expansion, curriculum = (
        build_hook(cfg, hook) for hook in (TokenExpansionHook, EfficientTrainHook)
    )
    if not expansion and not curriculum:
        raise ConfigError(
            f'{cfg.filename} trains without token expansion; add '
            "dict(type='mmvitlin.TokenExpansionHook') or dict(type='mmvitlin.EfficientTrainHook') "
            'to its custom_hooks'
        )
    settings = {}
    for hook in filter(None, (expansion, curriculum)):
        settings |= hook.plan_settings(cfg.train_cfg)
    # A curriculum goes by epoch, whatever its parts are given in.
    length = cfg.train_cfg.max_epochs if curriculum else expansion.length_of(cfg.train_cfg)
    phases = plan_training(find_backbone(MODELS.build(cfg.model)), **settings)
    ratio = compute_ratio(phases)
    bound = f'{1 / ratio:.3f}'
    path = args.out or Path(cfg.work_dir) / 'token_expansion_plan.png'

    print(table(phases, length))
    print(f'in all {ratio:.3f} of the compute of a dense training')
    print(f'the whole training is at most {bound} times faster than a dense one')
    print('GFLOPs: multiply-adds of matrix products and convolutions, one image forward')
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(phases, length, f'{Path(args.config).stem}: at most {bound}x faster', path)
    print(f'drawn to {path}')


def table(phases: Sequence[Phase], length: float) -> str:
    """A line for each phase: 'stage' is token expansion's, 'dense' all tokens of largest images."""
    rows = [('stage', 'from', 'share', 'tokens', 'size', 'GFLOPs', 'of dense', 'faster')]
    for phase in phases:
        row = (
            phase.stage,
            f'{phase.begin * length:.4g}',
            f'{phase.share:.1%}',
            phase.num_tokens or '-',
            '{} x {}'.format(*phase.image_size),
            f'{phase.multiply_adds / 1e9:.3f}',
            f'{phase.compute:.3f}',
            f'{1 / phase.compute:.2f}x',
        )
        rows.append(tuple(map(str, row)))
    return '\n'.join('  '.join(f'{cell:>9}' for cell in row) for row in rows)


def draw(phases: Sequence[Phase], length: float, title: str, path: Path) -> None:
    """Draw the compute of each phase over the training, against the dense one's."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout='constrained')
    axis.fill_between([0, length], 1, color='tab:orange', alpha=0.25, label='saved')
    for phase in phases:
        begin, width = phase.begin * length, phase.share * length
        axis.bar(begin, phase.compute, width, align='edge', color='tab:blue', edgecolor='white')
        lines = [f'{phase.image_size[0]} px', f'{phase.compute:.3f}']
        if phase.num_tokens:
            lines.insert(1, f'{phase.num_tokens} tokens')
        axis.text(
            begin + width / 2,
            phase.compute / 2,
            '\n'.join(lines),
            ha='center',
            va='center',
            color='white',
            fontsize=min(10, 80 * phase.share),
        )
    axis.set_xlim(0, length)
    axis.set_ylim(0, 1.05)
    axis.set_xlabel('part of the training' if length == 1 else 'epoch')
    axis.set_ylabel('compute of a step / of a dense one')
    axis.legend(loc='lower right')
    axis.set_title(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == '__main__':
    with one_line_errors():
        main()
