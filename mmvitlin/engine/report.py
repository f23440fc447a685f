"""Report of a training run as one HTML page, with its pictures inside."""

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config, ConfigDict

from mmvitlin.engine.predictions import ClassPredictions, classify, draw_samples
from mmvitlin.engine.run_record import RunRecord

WORST_SHOWN = 24
SAMPLES_SHOWN = 8
MATRIX_CLASSES = (
    60  # that a confusion matrix is drawn for; of more, only the worst pairs are listed
)
NUMBERED_CLASSES = 20  # up to which the matrix shows its numbers
PAIRS_SHOWN = 10
DETAILS = ('_s', '_m', '_l', '_75')  # endings of metrics that the curves leave out
DPI = 110

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #f4f6f8; margin: 0; }
main { max-width: 1040px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 0 0 12px; }
section { background: #fff; border: 1px solid #dde3e9; border-radius: 10px; padding: 18px 22px;
  margin: 16px 0; }
.muted { color: #66758a; } img { max-width: 100%; height: auto; }
.numbers { display: flex; flex-wrap: wrap; gap: 14px; }
.number { background: #eef3f9; border-radius: 8px; padding: 10px 18px; }
.number b { display: block; font-size: 24px; color: #1f5fa8; }
table { border-collapse: collapse; } td, th { padding: 4px 18px 4px 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid #edf0f3; }
pre { background: #f4f6f8; border-radius: 8px; padding: 12px; overflow-x: auto; font-size: 13px; }
"""


def make_report(run: RunRecord, checkpoint: Path | None, most: int, tools: str) -> str:
    """Make the page of a run.

    Args:
        run: content of its work directory.
        checkpoint: used for predictions; None leaves them out.
        most: largest number of images to classify, spread over the test data.
        tools: the folder of tools/, for the commands.

    Returns:
        A whole HTML page, which needs no other file.
    """
    sections = [('Result', _result(run)), ('Curves', _curves(run))]
    if checkpoint is not None and run.config.get('test_dataloader') is not None:
        if run.config.default_scope == 'mmpretrain':
            found = classify(run.config, checkpoint, most)
            sections.append(('Confusion matrix', _confusion(found)))
            sections.append(('Worst mistakes', _worst(found)))
        else:
            sections.append(('Predictions', _samples(run.config, checkpoint)))
    sections += [
        ('How to go on', _next_steps(run, checkpoint, tools)),
        ('Config', _config(run)),
        ('Environment', f'<pre>{html.escape(run.environment or "not in the log")}</pre>'),
    ]
    body = ''.join(f'<section><h2>{title}</h2>{content}</section>\n' for title, content in sections)
    name = html.escape(run.work_dir.resolve().name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<style>{STYLE}</style></head><body><main><h1>{name}</h1>'
        f'<div class="muted">{html.escape(str(run.work_dir))}</div>\n{body}</main></body></html>\n'
    )


def _result(run: RunRecord) -> str:
    """Show the last metrics, the steps of the best ones, and the speed of the training."""
    cards, sentences = [], []
    unit = 'epoch' if run.by_epoch() else 'iteration'
    metrics = main_metrics(run)
    for name, points in metrics.items():
        cards.append((name, f'{points[-1][1]:.4g}'))
        best = max(points, key=lambda point: point[1])
        if best[1] > points[-1][1]:
            sentences.append(f'{name} was best at {unit} {best[0]}: {best[1]:.4g}.')
    cards += [
        (f'{name} (test)', f'{value:.4g}') for name, value in run.test.items() if name in metrics
    ]
    cards.append(('last training loss', f'{run.train[-1]["loss"]:.4g}'))
    times = [entry['time'] for entry in run.train if 'time' in entry]
    if times:
        images = run.config.train_dataloader.batch_size / np.median(times)
        cards.append(('images per second and process', f'{images:.3g}'))
    if not metrics:
        sentences.append('Nothing was validated.')
    shown = ''.join(
        f'<div class="number"><b>{value}</b>{html.escape(name)}</div>' for name, value in cards
    )
    return f'<div class="numbers">{shown}</div><p>{html.escape(" ".join(sentences))}</p>'


def main_metrics(run: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """Return the metrics of the validations that are drawn as curves."""
    return {name: p for name, p in run.metrics().items() if not name.endswith(DETAILS)}


def _curves(run: RunRecord) -> str:
    """Draw losses, learning rate and metrics."""
    metrics = main_metrics(run)
    figure = Figure(figsize=(10, 3.4 if metrics else 3), layout='constrained')
    axes = figure.subplots(1, 3 if metrics else 2)
    steps = [entry['iter'] for entry in run.train]
    losses = sorted({name for entry in run.train for name in entry if 'loss' in name})
    for name in losses:
        values = [entry.get(name, math.nan) for entry in run.train]
        axes[0].plot(steps, values, label=name, linewidth=2 if name == 'loss' else 1)
    axes[0].set(title='training loss', xlabel='iteration')
    if len(losses) > 1:
        axes[0].legend(fontsize=7)
    axes[1].plot(steps, [entry.get('lr', math.nan) for entry in run.train], color='tab:green')
    axes[1].set(title='learning rate', xlabel='iteration')
    for name, points in metrics.items():
        axes[2].plot(*zip(*points), marker='o', markersize=3, label=name)
    if metrics:
        axes[2].set(title='validation', xlabel='epoch' if run.by_epoch() else 'iteration')
        axes[2].legend(fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    return _picture(figure, 'curves')


def _confusion(found: ClassPredictions) -> str:
    """Draw the confusion matrix, or for many classes list the pairs that are confused most."""
    matrix = found.confusion()
    right, total = int(matrix.trace()), int(matrix.sum())
    text = f'<p>{right} of {total} test images are right ({100 * right / total:.2f}%).</p>'
    count = len(matrix)
    if count <= MATRIX_CLASSES:
        side = min(max(3.5, 1.5 + 0.4 * count), 12)
        figure = Figure(figsize=(side + 0.8, side), layout='constrained')
        axis = figure.subplots()
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        picture = axis.imshow(shares, cmap='Blues', vmin=0, vmax=1)
        figure.colorbar(picture, ax=axis, label='share of the true class', shrink=0.8)
        names = [_short(name) for name in found.classes]
        axis.set_xticks(range(count), names, rotation=90)
        axis.set_yticks(range(count), names)
        axis.set(xlabel='predicted', ylabel='true')
        if count <= NUMBERED_CLASSES:
            for row, column in np.argwhere(matrix):
                colour = 'white' if shares[row, column] > 0.5 else 'black'
                number = matrix[row, column]
                axis.text(column, row, number, ha='center', va='center', color=colour, fontsize=8)
        text += _picture(figure, 'confusion matrix')
    wrong = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-wrong, axis=None, kind='stable')[:PAIRS_SHOWN]
    rows = [
        (found.classes[t], found.classes[p], wrong[t, p])
        for t, p in zip(*np.unravel_index(order, wrong.shape))
        if wrong[t, p]
    ]
    return text + (_table(('true', 'predicted', 'images'), rows) if rows else '')


def _worst(found: ClassPredictions) -> str:
    """Draw the mistakes with the highest scores."""
    rows = found.worst(WORST_SHOWN)
    if not len(rows):
        return '<p>There is none.</p>'
    across = min(6, len(rows))
    down = -(-len(rows) // across)
    figure = Figure(figsize=(across * 1.65, down * 2.0), layout='constrained')
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat:
        axis.axis('off')
    for axis, row in zip(axes.flat, rows):
        axis.imshow(found.image(row))
        predicted = found.scores[row].argmax()
        axis.set_title(
            f'{_short(found.classes[predicted])} {found.scores[row, predicted]:.2f}\n'
            f'is {_short(found.classes[found.labels[row]])}',
            fontsize=8,
            color='tab:red',
        )
    return _picture(figure, 'worst mistakes')


def _samples(cfg: Config, checkpoint: Path) -> str:
    """Show samples with truth and prediction."""
    is_map = cfg.default_scope == 'mmseg'
    order = 'image, truth, prediction' if is_map else 'truth where it is loaded, prediction'
    pictures = draw_samples(cfg, checkpoint, SAMPLES_SHOWN)
    figure = Figure(figsize=(10, 2.6 * SAMPLES_SHOWN / 2 / (1.5 if is_map else 1)))
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.995, 0.02, 0.04)
    axes = figure.subplots(-(-SAMPLES_SHOWN // 2), 2)
    for axis in axes.flat:
        axis.axis('off')
    for axis, picture in zip(axes.flat, pictures):
        axis.imshow(picture)
    legend = _legend(cfg.test_dataloader.dataset.get('metainfo') or {}) if is_map else ''
    return f'<p>From left to right: {order}.</p>{legend}' + _picture(figure, 'predictions')


def _legend(metainfo: dict) -> str:
    """List the classes of maps with their colors."""
    named = zip(metainfo.get('classes') or (), metainfo.get('palette') or ())
    items = (
        f'<span style="border-left:1em solid rgb{tuple(color)};padding:0 1.2em 0 .4em">'
        f'{html.escape(name)}</span>'
        for name, color in named
    )
    return f'<p>{" ".join(items)}</p>'


def _next_steps(run: RunRecord, checkpoint: Path | None, tools: str) -> str:
    """List the commands that come next."""
    config, tools = run.config_path, tools.rstrip('/')
    weights = checkpoint or run.work_dir / 'CHECKPOINT.pth'
    limit = 'max_epochs' if run.by_epoch() else 'max_iters'
    steps = {
        'Go on where it stopped': f'python {tools}/train.py {config} --work-dir {run.work_dir} '
        '--resume',
        'Test, and draw every prediction': f'python {tools}/test.py {config} {weights} '
        f'--show-dir {run.work_dir}/pictures',
        'Predict on images without labels': f'python {tools}/predict.py {config} {weights} IMAGES',
        'Train twice as long, elsewhere': f'set {limit} to {2 * run.config.train_cfg[limit]} in '
        'your config (its schedule follows, where the config derives it), and give another '
        '--work-dir',
    }
    return ''.join(f'<p>{k}:</p><pre>{html.escape(v)}</pre>' for k, v in steps.items())


def _config(run: RunRecord) -> str:
    """List the main settings, and the whole config in a folded element."""
    cfg = run.config
    optimizer = cfg.optim_wrapper.optimizer
    dataset = cfg.train_dataloader.dataset
    if dataset.type == 'mmvitlin.SeededDataset':  # the wrapper that training puts around
        dataset = dataset.dataset
    classes = (dataset.get('metainfo') or {}).get('classes') or ()
    heads = [
        cfg.model[part].type for part in cfg.model if part.endswith('head') and cfg.model[part]
    ]
    backbone = cfg.model.get('backbone', {})
    init_cfg = backbone.get('init_cfg')
    start = init_cfg.get('checkpoint') if isinstance(init_cfg, ConfigDict) else None
    rows = [
        ('host', cfg.default_scope),
        ('model', f'{cfg.model.type}: {backbone.get("type", "")}, {", ".join(heads)}'),
        ('starts from', cfg.get('load_from') or start or 'random weights'),
        ('data', f'{dataset.type} {dataset.get("data_root") or ""}'),
        ('classes', f'{len(classes)}: {", ".join(classes[:20])}' if classes else 'of the data set'),
        ('batch', f'{cfg.train_dataloader.batch_size} per process'),
        ('optimizer', f'{optimizer.type}, learning rate {optimizer.lr:g}'),
        ('length', ', '.join(f'{k} {v}' for k, v in cfg.train_cfg.items() if k.startswith('max'))),
        ('hooks', ', '.join(hook['type'] for hook in cfg.get('custom_hooks') or ()) or 'none'),
        ('seed', (cfg.get('randomness') or {}).get('seed')),
    ]
    text = html.escape(cfg.pretty_text)
    return _table((), rows) + f'<details><summary>whole config</summary><pre>{text}</pre></details>'


def _table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    def line(cells: Sequence, tag: str) -> str:
        return '<tr>' + ''.join(f'<{tag}>{html.escape(str(c))}</{tag}>' for c in cells) + '</tr>'

    return f'<table>{line(head, "th")}{"".join(line(row, "td") for row in rows)}</table>'


def _picture(figure: Figure, name: str) -> str:
    """Return a figure as an image element with the PNG inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=DPI)
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{name}" src="data:image/png;base64,{code}">'


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else f'{name[: most - 1]}…'
