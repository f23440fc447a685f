"""The log of a run begins with a few lines, and each of its lines tells speed and memory."""

import json
import logging
import re

import mmpretrain  # noqa: F401  (the host of the configs)
import pytest
from mmengine.config import Config
from tiny_run import DEMO, ROOT, tiny_config

from mmvitlin.engine import memory
from mmvitlin.engine.launcher import build_runner
from mmvitlin.engine.memory import GIB, MemoryEstimate, estimate_memory, fitting_batch
from mmvitlin.engine.run_log import keeps, keeps_in_terminal


def record(message, level=logging.INFO):
    return logging.LogRecord('mmengine', level, 'file', 1, message, (), None)


@pytest.mark.parametrize(
    'message, level, in_file, in_terminal',
    [
        ('paramwise_options -- backbone.norm.bias:weight_decay=0.0', logging.INFO, False, False),
        ('Config:\nmodel = dict()', logging.INFO, False, False),
        ('\n----\nSystem environment:\n  sys.platform: linux', logging.INFO, True, False),
        ('Epoch(train) [1][10/22]  loss: 1', logging.INFO, True, True),
        ('paramwise_options -- is skipped', logging.WARNING, True, True),
        ('"FileClient" will be deprecated in future.', logging.WARNING, False, False),
        ('Exp name: digits', logging.INFO, False, False),
    ],
)
def test_lines_without_readers_are_dropped(message, level, in_file, in_terminal):
    assert keeps(record(message, level)) == in_file
    assert (in_file and keeps_in_terminal(record(message, level))) == in_terminal


@pytest.mark.slow
def test_a_log_begins_in_twenty_lines_and_tells_speed_memory_and_stage(tmp_path, capsys):
    stages = dict(type='mmvitlin.EfficientTrainHook', input_size=(24, 28, 32), magnitude_level=None)
    cfg = tiny_config(tmp_path, log_level='INFO', train_cfg__max_epochs=1, custom_hooks=[stages])
    build_runner(cfg).train()
    seen = capsys.readouterr()
    start = re.split(r'Epoch\(train\)', seen.out + seen.err)[0].splitlines()
    assert len(start) < 20
    assert any('AdamW in OptimWrapper: ' in line and 'weight decay 0.05' in line for line in start)
    assert any(re.search(r'torch \d.*; (CPU|\d+ x )', line) for line in start)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'System environment:' in log and 'paramwise_options' not in log
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    step = next(entry for entry in map(json.loads, scalars) if 'loss' in entry)
    assert step['images_per_second'] > 0 and step['memory'] > 10
    assert step['efficienttrain_stage'] == 1


def test_memory_grows_with_the_batch_and_an_average():
    cfg = Config.fromfile(DEMO)
    plain = estimate_memory(cfg)
    dense = Config.fromfile(DEMO)
    dense.custom_hooks = []
    assert estimate_memory(dense).weights * 5 == plain.weights * 4  # the average is a fifth copy
    assert plain.shape == (32, 32) and plain.activations > 64 * 32 * 32 * 3 * 4
    cfg.train_dataloader.batch_size *= 2
    assert estimate_memory(cfg).activations == pytest.approx(2 * plain.activations, rel=0.01)
    cfg.model.backbone.with_cp = True
    assert estimate_memory(cfg).activations < plain.activations


def test_a_batch_that_fits_is_proposed():
    estimate = MemoryEstimate(weights=GIB, activations=16 * GIB, batch_size=128, shape=(224, 224))
    assert fitting_batch(estimate, 100 * GIB) == 128
    assert fitting_batch(estimate, 8 * GIB) == 32
    assert fitting_batch(estimate, GIB) == 1


def test_the_estimate_of_a_full_size_model_needs_no_memory_and_no_files():
    for name in ('l2vit/l2vit-base_8xb128-accum4', 'vit_llama/vit-llama-tiny_4xb256'):
        estimate = estimate_memory(Config.fromfile(ROOT / f'configs/{name}-300e_in1k.py'))
        assert estimate.total > 2 * GIB


def test_a_small_machine_is_told_of_a_batch_that_fits(monkeypatch):
    cfg = Config.fromfile(DEMO)
    for free, is_short in ((GIB, False), (2**25, True)):
        monkeypatch.setattr(memory, 'free_memory', lambda free=free: (free, 'this machine'))
        line, warns = memory.describe_memory(cfg)
        assert warns == is_short == ('train_dataloader.batch_size=' in line)
    assert 'train_dataloader.batch_size=16 optim_wrapper.accumulative_counts=4' in line
