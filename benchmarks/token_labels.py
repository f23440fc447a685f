"""Token labeling on digits: a teacher, its label maps, and LV-ViT trained on them.

The teacher, an L2ViT, is trained. tools/generate_token_labels.py writes the label map of every
training image. LV-ViT is trained on them with and without token expansion, in two processes that
alternate epoch by epoch.
"""

import argparse
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch
from harness import RESULTS, ROOT, describe_machine, describe_versions, log, write_json
from mmengine.runner import find_latest_checkpoint
from trainings import add_options, compare_trainings, train

TEACHER = ROOT / 'configs/quickstart/l2vit-micro_1xb64_digits-64px.py'
STUDENTS = {
    'LV-ViT': ROOT / 'configs/quickstart/lvvit-micro_1xb64_digits.py',
    'LV-ViT, token expansion': ROOT / 'configs/quickstart/lvvit-micro_toe_1xb64_digits.py',
}


def generate(checkpoint: str, out: Path, changes: dict) -> None:
    """Write the label maps of the training images with the command line tool."""
    tool = ROOT / 'tools/generate_token_labels.py'
    options = [f'{key}={value}' for key, value in changes.items()]
    command = [sys.executable, tool, TEACHER, checkpoint, out, '--workers', 0]
    command += ['--cfg-options', *options] if options else []
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def run_chain(options: argparse.Namespace, of_teacher: dict | None = None) -> dict:
    """Run everything once.

    Args:
        options: of the command line.
        of_teacher: changes to the config of the teacher.

    Returns:
        The accuracy of the teacher, the seconds of each part, and the result of
        `compare_trainings`.
    """
    of_teacher, seconds = of_teacher or {}, {}
    with TemporaryDirectory() as folder:
        folder, started = Path(folder), perf_counter()
        log('teacher\n')
        accuracy = train(TEACHER, folder / 'teacher', of_teacher)
        checkpoint = find_latest_checkpoint(folder / 'teacher')
        seconds['teacher'], started = perf_counter() - started, perf_counter()
        generate(checkpoint, folder / 'labels', of_teacher)
        seconds['label maps'] = perf_counter() - started
        print(f'teacher: {accuracy:.2f} top-1; {describe(seconds)}')
        changes = {'train_dataloader.dataset.label_root': str(folder / 'labels')}
        options = argparse.Namespace(**vars(options))
        options.cfg_options = {**changes, **(options.cfg_options or {})}
        students = compare_trainings(STUDENTS, next(iter(STUDENTS)), options)
    return {'teacher': accuracy, 'seconds': seconds, **students}


def describe(seconds: dict[str, float]) -> str:
    """Join the names of the parts and their seconds."""
    return ', '.join(f'{value:.0f} s for the {name}' for name, value in seconds.items())


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(device='cpu')
    parser.add_argument(
        '--threads', type=int, default=1, help='threads of torch (default: %(default)s)'
    )
    parser.add_argument(
        '--out', type=Path, default=RESULTS / 'token_labels.json', help='default: %(default)s'
    )
    add_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse_args()
    torch.set_num_threads(options.threads)
    report = {
        'benchmark': 'token_labels',
        'started': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'options': vars(options),
        'machine': describe_machine(options),
        'digits': run_chain(options),
        'versions': describe_versions(),
    }
    write_json(report, options.out)
    log(f'written to {options.out}\n')


if __name__ == '__main__':
    main()
