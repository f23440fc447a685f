"""Train a small L2ViT on real handwritten digits, test it, and draw its predictions."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import mmengine
import numpy as np
from mmengine.config import Config

from mmvitlin.datasets import Digits, DigitScenes
from mmvitlin.datasets.digits.digit_scenes import decode_run_lengths

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 15, 6  # of the picture of digits
SCENES_SHOWN = (4, 4)  # rows and columns of the pictures of scenes
SCORE_SHOWN = 0.5  # smallest score of a detection that is drawn
MASK_OPACITY = 0.6


@dataclass(frozen=True)
class Demo:
    """Demo of one task.

    Attributes:
        config: path of the config, relative to the root of the repository.
        work_dir: folder of all output, relative to the root as well.
        predictions: name of the file or folder that tools/test.py writes predictions to.
        scores: metric in the host's log -> name in the report.
        sheet: name of the picture of predictions.
        draw_sheet: draws it, given the config and the paths of predictions and picture.
        threads: number of torch's threads; None for one per core. On small maps a second thread
            gains little, and costs much if its core is busy.
    """

    config: str
    work_dir: str
    predictions: str
    scores: dict[str, str]
    sheet: str
    draw_sheet: Callable[[Config, Path, Path], None]
    threads: int | None = None


def main() -> None:
    """Run the demo of a task, and print its scores and the paths of its files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('task', choices=DEMOS, help='classify digits, detect or segment them')
    demo = DEMOS[parser.parse_args().task]
    config, work_dir = ROOT / demo.config, ROOT / demo.work_dir
    started = time.perf_counter()
    print(f'1/3 Training {demo.config}', flush=True)
    if demo.threads:
        os.environ['OMP_NUM_THREADS'] = str(demo.threads)
    run_tool('train.py', config, '--work-dir', work_dir, '--overwrite')
    checkpoint = Path((work_dir / 'last_checkpoint').read_text())

    print(f'2/3 Testing {checkpoint.relative_to(ROOT)} on held-out digits', flush=True)
    predictions = work_dir / demo.predictions
    run_tool('test.py', config, checkpoint, '--work-dir', work_dir / 'test', '--out', predictions)
    metrics = json.loads(newest(work_dir / 'test', '*/*.json').read_text())

    print('3/3 Drawing', flush=True)
    curve, sheet = work_dir / 'training_curve.png', work_dir / demo.sheet
    lines = newest(work_dir, '*/vis_data/scalars.json').read_text().splitlines()
    draw_curve([json.loads(line) for line in lines], demo.scores, config.stem, curve)
    demo.draw_sheet(Config.fromfile(config), predictions, sheet)

    print()
    for key, score in demo.scores.items():
        print(f'{score} on held-out digits: {metrics[key]:.4g}')
    print(f'time: {time.perf_counter() - started:.0f} s')
    for name, path in dict(checkpoint=checkpoint, curve=curve, sheet=sheet).items():
        print(f'{name + ":":12}{path.relative_to(ROOT)}')


def run_tool(tool: str, *arguments: object) -> None:
    """Run a script of tools/; end with its exit code if it fails."""
    command = [sys.executable, ROOT / 'tools' / tool, *arguments]
    code = subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def newest(folder: Path, pattern: str) -> Path:
    """Return the newest file that matches a pattern."""
    return max(folder.glob(pattern), key=lambda file: file.stat().st_mtime)


def draw_curve(scalars: list[dict], scores: dict[str, str], title: str, path: Path) -> None:
    """Draw the training loss and the validation scores over epochs, or over iterations."""
    train = [entry for entry in scalars if 'loss' in entry]
    val = [entry for entry in scalars if next(iter(scores)) in entry]
    by_epoch = 'epoch' in train[-1]
    iters_per_step = train[-1]['iter'] / train[-1]['epoch'] if by_epoch else 1
    figure, loss_axis = plt.subplots(figsize=(8, 4.5), layout='constrained')
    score_axis = loss_axis.twinx()
    loss_axis.plot(
        [entry['iter'] / iters_per_step for entry in train],
        [entry['loss'] for entry in train],
        color='tab:blue',
    )
    steps = [entry['step'] for entry in val]
    for (key, name), colour, width in zip(scores.items(), ('tab:orange', 'tab:green'), (4, 1.5)):
        values = [entry[key] for entry in val]
        score_axis.plot(steps, values, color=colour, linewidth=width, marker='o', label=name)
    loss_axis.set_xlabel('epoch' if by_epoch else 'iteration')
    loss_axis.set_ylabel('training loss', color='tab:blue')
    score_axis.set_ylabel('on held-out digits')
    score_axis.grid(alpha=0.3)
    score_axis.legend(loc='center right')
    reached = ', '.join(f'{name} {val[-1][key]:.4g}' for key, name in scores.items())
    figure.suptitle(f'{title}: {reached}')
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_digits(config: Config, predictions: Path, path: Path) -> None:
    """Draw held-out digits with predicted and true label, errors first and in red."""
    digits = Digits(config.test_dataloader.dataset.split)
    predicted = np.array([int(sample['pred_label']) for sample in mmengine.load(predictions)])
    truth = np.array([digit['gt_label'] for digit in digits])
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


def draw_detections(config: Config, predictions: Path, path: Path) -> None:
    """Draw true and predicted boxes and masks side by side."""
    scenes = test_scenes(config)
    found = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(predictions)}

    def draw_truth(axis: Axes, scene: dict) -> None:
        axis.imshow(scene['img'][..., ::-1])
        for instance in scene['instances']:
            name, colour = label_of(scenes, instance['bbox_label'])
            draw_instance(axis, instance['bbox'], instance['mask'], colour, name)

    def draw_predicted(axis: Axes, scene: dict) -> None:
        axis.imshow(scene['img'][..., ::-1])
        instances = found[scene['img_id']]
        for index in np.flatnonzero(instances['scores'] >= SCORE_SHOWN):
            name, colour = label_of(scenes, int(instances['labels'][index]))
            box, mask = instances['bboxes'][index].tolist(), instances['masks'][index]
            score = float(instances['scores'][index])
            draw_instance(axis, box, mask, colour, f'{name} {score:.2f}')

    title = f'held-out scenes: truth, and detections with a score of {SCORE_SHOWN} or more'
    draw_scenes(scenes, {'truth': draw_truth, 'predicted': draw_predicted}, title, path)


def draw_maps(config: Config, predictions: Path, path: Path) -> None:
    """Draw scenes, true semantic maps and predicted ones."""
    scenes = test_scenes(config)
    palette = np.array(scenes.metainfo['palette'], np.uint8)

    def draw_image(axis: Axes, scene: dict) -> None:
        axis.imshow(scene['img'][..., ::-1])

    def draw_truth(axis: Axes, scene: dict) -> None:
        axis.imshow(palette[scene['gt_seg_map']])

    def draw_predicted(axis: Axes, scene: dict) -> None:
        predicted = predictions / Path(scene['img_path']).name
        with Image.open(predicted) as semantic_map:
            axis.imshow(palette[np.array(semantic_map)])

    panels = {'scene': draw_image, 'truth': draw_truth, 'predicted': draw_predicted}
    draw_scenes(scenes, panels, 'held-out scenes, and the class of each pixel', path)


def test_scenes(config: Config) -> DigitScenes:
    """Build the test set of a config, without its pipeline and its cache."""
    settings = dict(config.test_dataloader.dataset, pipeline=(), cache_dir=None)
    return DigitScenes(**{key: value for key, value in settings.items() if key != 'type'})


def draw_scenes(
    scenes: DigitScenes, panels: dict[str, Callable[[Axes, dict], None]], title: str, path: Path
) -> None:
    """Draw scenes, evenly spread over the data set, with the same panels for each."""
    down, across = SCENES_SHOWN
    figure, axes = plt.subplots(
        down,
        across * len(panels),
        figsize=(across * len(panels) * 1.7, down * 1.8 + 0.8),
        layout='constrained',
    )
    shown = np.linspace(0, len(scenes) - 1, down * across).astype(int).tolist()
    for index, group in zip(shown, axes.reshape(-1, len(panels))):
        scene = scenes[index]
        for axis, (name, draw) in zip(group, panels.items()):
            draw(axis, scene)
            axis.set_title(name, fontsize=8, pad=3)
            axis.axis('off')
    legend = [
        Patch(color=np.divide(colour, 255), label=name)
        for name, colour in zip(scenes.metainfo['classes'], scenes.metainfo['palette'])
    ]
    figure.legend(handles=legend, loc='outside lower center', ncols=len(legend), frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_instance(
    axis: Axes, box: list[float], mask: dict, colour: np.ndarray, caption: str
) -> None:
    """Draw a box, a mask given in COCO run lengths, and a caption above or in the box."""
    shape = decode_run_lengths(mask)
    axis.imshow(np.dstack([np.broadcast_to(colour, (*shape.shape, 3)), shape * MASK_OPACITY]))
    left, top, right, bottom = box
    corner = (left - 0.5, top - 0.5)  # imshow puts pixel centres on whole numbers
    axis.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour))
    label = dict(facecolor=colour, edgecolor='none', pad=0.8)
    axis.text(left, max(top - 2, 6), caption, fontsize=6, color='white', bbox=label)


def label_of(scenes: DigitScenes, label: int) -> tuple[str, np.ndarray]:
    """Return the name of a class and its colour, from 0 to 1."""
    return scenes.metainfo['classes'][label], np.divide(scenes.metainfo['palette'][label], 255)


DEMOS = {
    'cls': Demo(
        config='configs/quickstart/l2vit-micro_1xb64_digits.py',
        work_dir='work_dirs/demo',
        predictions='predictions.pkl',
        scores={'accuracy/top1': 'top-1 accuracy (%)'},
        sheet='digits.png',
        draw_sheet=draw_digits,
        threads=1,
    ),
    'det': Demo(
        config='configs/quickstart/mask-rcnn_l2vit-micro_fpn_digit-scenes.py',
        work_dir='work_dirs/demo-det',
        predictions='predictions.pkl',
        scores={'coco/bbox_mAP_50': 'bbox mAP50', 'coco/segm_mAP_50': 'segm mAP50'},
        sheet='detections.png',
        draw_sheet=draw_detections,
    ),
    'seg': Demo(
        config='configs/quickstart/l2vit-micro_upernet_digit-scenes.py',
        work_dir='work_dirs/demo-seg',
        predictions='maps',
        scores={'mIoU': 'mIoU (%)'},
        sheet='maps.png',
        draw_sheet=draw_maps,
    ),
}

if __name__ == '__main__':
    main()
