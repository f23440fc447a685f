"""Train a small L2ViT on real handwritten digits, test it, and draw what it learned."""

import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import mmengine
import numpy as np

from mmvitlin.datasets import Digits

matplotlib.use('Agg')
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / 'configs/quickstart/l2vit-micro_1xb64_digits.py'
WORK_DIR = ROOT / 'work_dirs/demo'
COLUMNS, ROWS = 15, 6  # of the sheet of digits


def main() -> None:
    """Run the demo and say where everything is."""
    started = time.perf_counter()
    print(f'1/3 Training {CONFIG.relative_to(ROOT)}', flush=True)
    run_tool('train.py', CONFIG, '--work-dir', WORK_DIR)
    checkpoint = Path((WORK_DIR / 'last_checkpoint').read_text())

    print(f'2/3 Testing {checkpoint.relative_to(ROOT)} on the held-out digits', flush=True)
    predictions = WORK_DIR / 'predictions.pkl'
    run_tool('test.py', CONFIG, checkpoint, '--work-dir', WORK_DIR / 'test', '--out', predictions)

    print('3/3 Drawing', flush=True)
    predicted = np.array([int(sample['pred_label']) for sample in mmengine.load(predictions)])
    digits = Digits('val')
    truth = np.array([digit['gt_label'] for digit in digits])
    curve = draw_curve(newest_scalars(), WORK_DIR / 'training_curve.png')
    sheet = draw_sheet(digits, predicted, truth, WORK_DIR / 'digits.png')

    accuracy = (predicted == truth).mean() * 100
    print(f'\ntop-1 accuracy on {len(truth)} held-out digits: {accuracy:.2f}')
    print(f'time: {time.perf_counter() - started:.0f} s')
    for name, path in dict(checkpoint=checkpoint, curve=curve, sheet=sheet).items():
        print(f'{name + ":":12}{path.relative_to(ROOT)}')


def run_tool(tool: str, *arguments: object) -> None:
    """Run a script of tools/; end with its exit code if it fails."""
    command = [sys.executable, ROOT / 'tools' / tool, *arguments]
    code = subprocess.run([str(part) for part in command], check=False).returncode
    if code:
        sys.exit(code)


def newest_scalars() -> list[dict]:
    """What the last training run logged, one dict a line."""
    files = WORK_DIR.glob('*/vis_data/scalars.json')
    newest = max(files, key=lambda file: file.stat().st_mtime)
    return [json.loads(line) for line in newest.read_text().splitlines()]


def draw_curve(scalars: list[dict], path: Path) -> Path:
    """Draw the training loss and the validation accuracy over the epochs."""
    train = [entry for entry in scalars if 'loss' in entry]
    val = [entry for entry in scalars if 'accuracy/top1' in entry]
    iters_per_epoch = max(entry['iter'] for entry in train) / max(entry['epoch'] for entry in train)
    figure, loss_axis = plt.subplots(figsize=(8, 4.5), layout='constrained')
    accuracy_axis = loss_axis.twinx()
    loss_axis.plot(
        [entry['iter'] / iters_per_epoch for entry in train],
        [entry['loss'] for entry in train],
        color='tab:blue',
    )
    accuracy = [entry['accuracy/top1'] for entry in val]
    accuracy_axis.plot([entry['step'] for entry in val], accuracy, color='tab:orange', marker='.')
    loss_axis.set_xlabel('epoch')
    loss_axis.set_ylabel('training loss', color='tab:blue')
    accuracy_axis.set_ylabel('top-1 on held-out digits (%)', color='tab:orange')
    accuracy_axis.grid(alpha=0.3)
    figure.suptitle(f'{CONFIG.stem}: {accuracy[-1]:.2f} top-1 after {val[-1]["step"]} epochs')
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def draw_sheet(digits: Digits, predicted: np.ndarray, truth: np.ndarray, path: Path) -> Path:
    """Draw held-out digits with predicted and true label, the mistakes first and in red."""
    wrong = np.flatnonzero(predicted != truth)
    right = np.flatnonzero(predicted == truth)
    free = max(COLUMNS * ROWS - len(wrong), 0)
    spread = right[np.linspace(0, len(right) - 1, free).astype(int)] if free else right[:0]
    figure, axes = plt.subplots(ROWS, COLUMNS, figsize=(COLUMNS, ROWS * 1.25), layout='constrained')
    for axis, index in zip(axes.flat, [*wrong, *spread]):
        is_right = predicted[index] == truth[index]
        axis.imshow(digits[index]['img'][..., 0], cmap='gray_r')
        axis.set_title(
            f'{predicted[index]} (is {truth[index]})',
            fontsize=8,
            color='tab:green' if is_right else 'tab:red',
        )
    for axis in axes.flat:
        axis.axis('off')
    figure.suptitle(f'predicted (is true): {len(wrong)} of {len(truth)} held-out digits wrong')
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


if __name__ == '__main__':
    main()
