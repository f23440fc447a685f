"""tools/demo.py draws the predictions beside the ground truth."""

import importlib.util

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_run import ROOT

from mmvitlin.datasets import Digits, DigitScenes
from mmvitlin.datasets.digits.digit_scenes import decode_run_lengths

NUM_SCENES = 2


@pytest.fixture(scope='module')
def demo():
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools/demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SCENES_SHOWN = (1, NUM_SCENES)  # a full sheet takes seconds to draw
    module.COLUMNS, module.ROWS = 5, 2
    return module


@pytest.fixture
def drawn(demo, monkeypatch):
    """Record the arrays of pictures and the texts that are drawn on axes."""
    record = dict(pictures=[], texts=[])
    show, write = demo.Axes.imshow, demo.Axes.text
    monkeypatch.setattr(
        demo.Axes,
        'imshow',
        lambda axis, picture, **options: (
            record['pictures'].append(np.asarray(picture)) or show(axis, picture, **options)
        ),
    )
    monkeypatch.setattr(
        demo.Axes,
        'text',
        lambda axis, x, y, text, **options: (
            record['texts'].append(text) or write(axis, x, y, text, **options)
        ),
    )
    return record


def config_of(demo, task):
    """The demo's config, with few scenes to test on."""
    config = Config.fromfile(ROOT / demo.DEMOS[task].config)
    if task != 'cls':
        config.test_dataloader.dataset.num_scenes = NUM_SCENES
    return config


@pytest.mark.slow
def test_detections_are_drawn_from_a_score_on_beside_the_truth(demo, drawn, tmp_path):
    scenes = list(DigitScenes('val', 'detection', NUM_SCENES))
    predictions = []
    for scene in scenes:
        first, second = scene['instances'][:2]
        found = dict(
            bboxes=torch.tensor([first['bbox'], second['bbox']]),
            labels=torch.tensor([first['bbox_label'], second['bbox_label']]),
            scores=torch.tensor([0.875, 0.25]),
            masks=[
                coco_mask.encode(np.asfortranarray(decode_run_lengths(instance['mask'])))
                for instance in (first, second)
            ],
        )
        predictions.append(dict(img_id=scene['img_id'], pred_instances=found))
    mmengine.dump(predictions[::-1], tmp_path / 'predictions.pkl')
    demo.draw_detections(
        config_of(demo, 'det'), tmp_path / 'predictions.pkl', tmp_path / 'sheet.png'
    )

    expected = []
    for scene in scenes:
        labels = [instance['bbox_label'] for instance in scene['instances']]
        expected += [str(label) for label in labels] + [f'{labels[0]} 0.88']
    assert [text for text in drawn['texts'] if text] == expected
    assert Image.open(tmp_path / 'sheet.png').width > 500


@pytest.mark.slow
def test_predicted_maps_are_drawn_beside_the_truth(demo, drawn, tmp_path):
    scenes = DigitScenes('val', 'segmentation', NUM_SCENES)
    palette = np.array(scenes.metainfo['palette'])
    (tmp_path / 'maps').mkdir()
    for scene in scenes:
        flipped = scene['gt_seg_map'][::-1].copy()
        Image.fromarray(flipped).save(tmp_path / 'maps' / f'{scene["img_id"]:06d}.png')
    demo.draw_maps(config_of(demo, 'seg'), tmp_path / 'maps', tmp_path / 'sheet.png')

    pictures = iter(drawn['pictures'])
    for scene in scenes:
        assert np.array_equal(next(pictures), scene['img'][..., ::-1])
        assert np.array_equal(next(pictures), palette[scene['gt_seg_map']])
        assert np.array_equal(next(pictures), palette[scene['gt_seg_map'][::-1]])
    assert Image.open(tmp_path / 'sheet.png').width > 500


def test_mistaken_digits_come_first(demo, drawn, tmp_path):
    digits = list(Digits('val'))
    labels = [digit['gt_label'] for digit in digits]
    predicted = [*labels[:40], (labels[40] + 1) % 10, *labels[41:]]
    mmengine.dump(
        [dict(pred_label=torch.tensor([label])) for label in predicted], tmp_path / 'p.pkl'
    )
    demo.draw_digits(config_of(demo, 'cls'), tmp_path / 'p.pkl', tmp_path / 'sheet.png')
    assert np.array_equal(drawn['pictures'][0], digits[40]['img'][..., 0])
    assert len(drawn['pictures']) == demo.COLUMNS * demo.ROWS


@pytest.mark.parametrize('by_epoch', [True, False])
def test_the_curve_counts_in_the_runs_own_steps(demo, by_epoch, tmp_path, monkeypatch):
    lines, plot = [], demo.Axes.plot
    monkeypatch.setattr(
        demo.Axes,
        'plot',
        lambda axis, x, y, **options: (
            lines.append((list(x), list(y))) or plot(axis, x, y, **options)
        ),
    )
    epoch = dict(epoch=1) if by_epoch else {}
    scalars = [
        dict(loss=3.0, iter=5, step=5, **epoch),
        dict(loss=2.0, iter=10, step=10, **epoch),
        dict(score=0.25, step=1 if by_epoch else 10),
    ]
    demo.draw_curve(scalars, {'score': 'the score'}, 'a run', tmp_path / 'curve.png')
    steps = [0.5, 1.0] if by_epoch else [5, 10]
    assert lines == [(steps, [3.0, 2.0]), (steps[1:], [0.25])]
    assert Image.open(tmp_path / 'curve.png').width > 500
