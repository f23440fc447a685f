"""Write WORK_DIR/report.html: result, curves, mistakes or samples, config, how to go on.

The page is one file that needs no network. Predictions are made with the newest checkpoint, on the
test data of the run's config.
"""

import argparse
import os
from pathlib import Path

from mmvitlin.apis.model_index import index_folder
from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.engine.launcher import existing_checkpoint, load_config, one_line_errors
from mmvitlin.engine.report import make_report
from mmvitlin.engine.run_record import read_run


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', type=Path, help='where tools/train.py left its logs')
    parser.add_argument('--checkpoint', help='to predict with; by default the newest')
    parser.add_argument(
        '--images', type=int, default=2000, help='to classify at most; 0 for no predictions'
    )
    parser.add_argument('--out', type=Path, help='the page; by default WORK_DIR/report.html')
    args = parser.parse_args()
    if args.images < 0:
        parser.error(f'--images must be 0 or more, got {args.images}')
    return args


def main() -> None:
    """Read, predict, write."""
    args = parse_args()
    run = read_run(args.work_dir)
    load_config(str(run.config_path), None, None)  # imports the host
    checkpoint = run.checkpoint
    if args.checkpoint:
        checkpoint = Path(existing_checkpoint(args.checkpoint))
    if args.images == 0:
        checkpoint = None
    tools = index_folder() / 'tools'
    near = tools.is_relative_to(Path.cwd())
    page = make_report(run, checkpoint, args.images, os.path.relpath(tools) if near else str(tools))
    out = args.out or args.work_dir / 'report.html'
    with atomic_write(out) as partial:
        partial.write_text(page, encoding='utf-8')
    print(f'wrote {out}')


if __name__ == '__main__':
    with one_line_errors():
        main()
