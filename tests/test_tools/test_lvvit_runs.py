"""LV-ViT in a run: label maps, MixToken and token expansion together, resumed and tested."""

import json
import re

import pytest
import torch
from label_files import write_label_maps
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from same_states import assert_same
from test_engine.test_resume import stop_before
from tiny_run import ROOT

from mmvitlin.datasets import Digits

pytestmark = pytest.mark.slow

CONFIG = ROOT / 'configs/quickstart/lvvit-micro_toe_1xb64_digits.py'
TINY = {
    'model.backbone.arch': dict(
        embed_dims=8,
        num_layers=3,
        num_heads=2,
        feedforward_channels=16,
        skip_lam=2.0,
        stem_channels=4,
    ),
    'model.backbone.drop_path_rate': 0.1,
    'model.head.in_channels': 8,
    'train_dataloader.dataset.dataset.indices': 48,
    'train_dataloader.batch_size': 16,
    'val_dataloader.dataset.indices': 32,
    'test_dataloader.dataset.indices': 32,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'default_hooks.logger.interval': 1,
    'train_cfg.max_epochs': 3,
    'param_scheduler.warmup': 1,
    'custom_hooks.1.expansion_step': (0, 1, 2),
}


@pytest.fixture(scope='module')
def label_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('labels')
    write_label_maps(root, Digits('train', indices=48))
    return root


def config(work_dir, label_root, **options):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({**TINY, **options, 'train_dataloader.dataset.label_root': str(label_root)})
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir).replace('/', '_')
    return cfg


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, label_root):
    work_dir = tmp_path_factory.mktemp('undisturbed')
    Runner.from_cfg(config(work_dir, label_root)).train()
    return work_dir


@pytest.mark.parametrize('epoch', [1, 2])
def test_resuming_repeats_the_mixing_bit_for_bit(epoch, undisturbed, label_root, tmp_path):
    stop_before(epoch, config(tmp_path, label_root))
    resumed = config(tmp_path, label_root, resume=True)
    resumed.experiment_name += '_resumed'
    Runner.from_cfg(resumed).train()
    ours, expected = (
        torch.load(folder / 'epoch_3.pth', weights_only=True) for folder in (tmp_path, undisturbed)
    )
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert_same(ours[key], expected[key], key)


class Record(Hook):
    """Keeps what the head saw of each batch."""

    priority = 'LOWEST'

    def __init__(self):
        self.mixed, self.targets = [], []

    def before_train(self, runner):
        head = runner.model.head
        classify, make_targets = head.classify, head.make_targets

        def recording(feats):
            self.mixed.append(len(feats[-1]) == 3)
            return classify(feats)

        def recording_targets(*arguments):
            self.targets.append(make_targets(*arguments))
            return self.targets[-1]

        head.classify, head.make_targets = recording, recording_targets


def test_training_mixes_and_reads_label_maps_and_evaluation_does_neither(label_root, tmp_path):
    cfg = config(tmp_path, label_root, **{'train_cfg.max_epochs': 2})
    runner, record = Runner.from_cfg(cfg), Record()
    runner.register_hook(record)
    runner.train()
    assert record.mixed == ([True] * 3 + [False] * 2) * 2  # raw model and average
    for targets in record.targets:
        assert targets.shape == (16, 10, 2 + 64)
        tokens = targets[..., 2:]
        assert (tokens - tokens[..., :1]).abs().amax() > 0.1  # not the image's label everywhere


def test_the_test_tool_finds_the_accuracy_of_the_log(undisturbed, label_root, run_tool, tmp_path):
    path = tmp_path / 'config.py'
    config(undisturbed, label_root).dump(path)
    arguments = (path, undisturbed / 'epoch_3.pth', '--work-dir', tmp_path)
    run_tool('test.py', *arguments, '--out', tmp_path / 'm.json', '--out-item', 'metrics')
    log = ''.join(file.read_text() for file in undisturbed.glob('*/*.log'))
    logged = re.findall(r'Epoch\(val\) \[3\].*\saccuracy/top1: ([\d.]+)', log)
    accuracy = json.loads((tmp_path / 'm.json').read_text())['accuracy/top1']
    assert [float(value) for value in logged] == [pytest.approx(accuracy, abs=1e-3)]
