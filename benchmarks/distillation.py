"""Distillation on digits: a small LION with and without a teacher, per seed.

The teacher, the L2ViT of the quickstart, is trained once. Then, for every seed, the student of the
distillation quickstart is trained from labels alone and with the teacher, with the same model,
schedule and random numbers.
"""

import argparse
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
from harness import RESULTS, ROOT, describe_machine, describe_versions, log, write_json
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint
from trainings import train

from mmvitlin.engine.launcher import add_cfg_options

STUDENT = ROOT / 'configs/quickstart/lion-d-natural-micro-p8_distilled_1xb64_digits.py'
TEACHER = ROOT / Config.fromfile(STUDENT).model.teacher.model
STUDENTS = {'labels alone': {'model.distillation': 'none'}, 'distilled': {}}


def measure(path: Path, work_dir: Path, changes: dict) -> dict[str, float]:
    """Train a config; return the accuracy (%) and the CPU time of the run in seconds."""
    started = process_time()
    accuracy = train(path, work_dir, changes)
    log('.')
    return {'accuracy': accuracy, 'cpu_seconds': process_time() - started}


def compare(seeds: Sequence[int], changes: dict, of_teacher: dict | None = None) -> dict:
    """Train the teacher, then both students with every seed.

    Args:
        seeds: seeds of the students.
        changes: changes to the config of both students.
        of_teacher: changes to the config of the teacher.

    Returns:
        'teacher': the result of `measure`; 'runs': per seed, name of the student -> its result.
    """
    with TemporaryDirectory() as folder:
        folder = Path(folder)
        log('teacher ')
        teacher = measure(TEACHER, folder / 'teacher', of_teacher or {})
        taught = {
            'model.teacher.model': str(TEACHER),
            'model.teacher.checkpoint': find_latest_checkpoint(folder / 'teacher'),
            'default_hooks.checkpoint': None,
        }
        log(' students ')
        runs = []
        for seed in seeds:
            seeded = {**taught, **changes, 'randomness.seed': seed}
            runs.append(
                {
                    name: measure(STUDENT, folder / f'{name} {seed}', {**seeded, **settings})
                    for name, settings in STUDENTS.items()
                }
            )
        log('\n')
    return {'teacher': teacher, 'runs': runs}


def markdown(report: dict) -> str:
    """Format the report as a table, with the gain from the teacher."""
    runs, teacher, means = report['runs'], report['teacher'], []
    seeds = ', '.join(map(str, report['options']['seeds']))
    lines = [f'| digits | top-1 (%), seeds {seeds} | mean | CPU seconds |', '|---|---|--:|---|']
    lines += [f'| teacher | {teacher["accuracy"]:.2f} | | {teacher["cpu_seconds"]:.0f} |']
    for name in STUDENTS:
        accuracies, seconds = (
            [run[name][key] for run in runs] for key in ('accuracy', 'cpu_seconds')
        )
        means.append(np.mean(accuracies))
        cells = [', '.join(f'{value:.2f}' for value in accuracies), f'{means[-1]:.2f}']
        cells += [', '.join(f'{value:.0f}' for value in seconds)]
        lines.append(f'| student, {name} | {" | ".join(cells)} |')
    return '\n'.join([*lines, '', f'the teacher adds {means[1] - means[0]:+.2f} points'])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(device='cpu')
    add = parser.add_argument
    add('--threads', type=int, default=1, help='threads of torch (default: %(default)s)')
    add('--seeds', nargs='+', type=int, default=[0, 1, 2], help='seeds (default: 0 1 2)')
    add('--out', type=Path, default=RESULTS / 'distillation.json', help='default: %(default)s')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse_args()
    torch.set_num_threads(options.threads)
    report = {
        'benchmark': 'distillation',
        'started': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'options': vars(options),
        'machine': describe_machine(options),
        **compare(options.seeds, options.cfg_options or {}),
        'versions': describe_versions(),
    }
    write_json(report, options.out)
    log(f'written to {options.out}\n')
    print(markdown(report))


if __name__ == '__main__':
    main()
