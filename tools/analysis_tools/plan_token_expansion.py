"""Tokens and compute of every stage of token expansion, and how much faster training can get.

The config trains with mmvitlin.TokenExpansionHook. Images have the size that its backbone was built
for; nothing is trained, and no data is read.
"""

import argparse
from itertools import accumulate
from pathlib import Path

import matplotlib
from mmengine.registry import MODELS, init_default_scope

from mmvitlin.engine.hooks.token_expansion_hook import TokenExpansionHook, hook_of
from mmvitlin.engine.launcher import add_cfg_options, load_config, one_line_errors
from mmvitlin.engine.token_plan import speed_up_bound, stage_shares

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
    hook = hook_of(cfg)
    hook.attach(MODELS.build(cfg.model))
    length = hook.length_of(cfg.train_cfg)
    shares = stage_shares(hook.expansion_step, length)
    bound = speed_up_bound([plan.compute for plan in hook.plan], shares)
    path = args.out or Path(cfg.work_dir) / 'token_expansion_plan.png'

    print(table(hook, shares, length))
    print(f'the whole training is at most {bound:.3f} times faster than a dense one')
    print('GFLOPs: multiply-adds of matrix products and convolutions, one image forward')
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(hook, shares, length, f'{Path(args.config).stem}: at most {bound:.3f}x faster', path)
    print(f'drawn to {path}')


def table(hook: TokenExpansionHook, shares: list[float], length: float) -> str:
    """A line for each stage that takes part of the training."""
    rows = [('stage', 'from', 'share', 'tokens', 'GFLOPs', 'of dense', 'faster')]
    for stage, (plan, share, begin) in enumerate(zip(hook.plan, shares, begins(shares, length))):
        if share:
            flops = f'{plan.multiply_adds / 1e9:.3f}'
            faster = f'{1 / plan.compute:.2f}x'
            row = (stage, f'{begin:g}', f'{share:.1%}', plan.num_tokens, flops)
            rows.append((*map(str, row), f'{plan.compute:.3f}', faster))
    return '\n'.join('  '.join(f'{cell:>8}' for cell in row) for row in rows)


def begins(shares: list[float], length: float) -> list[float]:
    """Where each stage begins."""
    return [0, *accumulate(share * length for share in shares[:-1])]


def draw(
    hook: TokenExpansionHook, shares: list[float], length: float, title: str, path: Path
) -> None:
    """Draw the compute of each stage over the training, against the dense one's."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout='constrained')
    axis.fill_between([0, length], 1, color='tab:orange', alpha=0.25, label='saved')
    for plan, share, begin in zip(hook.plan, shares, begins(shares, length)):
        if share:
            width = share * length
            axis.bar(begin, plan.compute, width, align='edge', color='tab:blue', edgecolor='white')
            axis.text(
                begin + width / 2,
                plan.compute / 2,
                f'{plan.num_tokens} tokens\n{plan.compute:.3f}',
                ha='center',
                va='center',
                color='white',
            )
    axis.set_xlim(0, length)
    axis.set_ylim(0, 1.05)
    axis.set_xlabel('part of the training' if hook.by_fraction else 'epoch')
    axis.set_ylabel('compute of a step / of a dense one')
    axis.legend(loc='lower right')
    axis.set_title(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == '__main__':
    with one_line_errors():
        main()
