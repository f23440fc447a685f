"""Distillation by the tools: its checkpoints are the student's, and need no teacher."""

import json
import math
import re

import pytest
import timm
import torch
from fresh_python import run_script
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from test_tools.test_full_size_configs import HERE, IN1K, make_imagenet
from tiny_run import ROOT

pytestmark = pytest.mark.slow

PLAIN = ROOT / 'configs/quickstart/lion-d-natural-micro_1xb64_digits.py'
DISTILLED = PLAIN.with_name('lion-d-natural-micro-p8_distilled_1xb64_digits.py')
TEACHER = PLAIN.with_name('l2vit-micro_1xb64_digits.py')
TINY = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
        patch_size=8,
        drop_path_rate=0.2,
    ),
    head=dict(in_channels=16),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
    {more}
)
train_dataloader = dict(batch_size=16, dataset=dict(indices=48))
val_dataloader = dict(dataset=dict(indices=32))
test_dataloader = dict(dataset=dict(indices=32))
train_cfg = dict(max_epochs=3)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=-1), logger=dict(interval=1))
"""


def write_tiny(path, base, more=''):
    path.write_text(TINY.format(base=str(base), more=more))
    return path


def build(config):
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs, and `run`, three epochs of a distilled student whose teacher is then lost."""
    folder = tmp_path_factory.mktemp('distillation')
    teacher = build(TEACHER)
    teacher.init_weights()
    torch.save({'state_dict': teacher.state_dict()}, folder / 'teacher.pth')
    write_tiny(folder / 'plain.py', PLAIN)
    settings = dict(model=str(TEACHER), checkpoint=str(folder / 'teacher.pth'))
    config = write_tiny(folder / 'distilled.py', DISTILLED, f'teacher={settings!r},')
    train = ROOT / 'tools/train.py'
    run_script(train, config, '--work-dir', folder / 'run')
    (folder / 'teacher.pth').rename(folder / 'lost.pth')
    return folder


def load(path):
    return torch.load(path, weights_only=True)


def tensors_of(value, name=''):
    """Name and value of every tensor in a checkpoint."""
    if isinstance(value, torch.Tensor):
        yield name, value
    items = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in value.items() if isinstance(value, dict) else items:
        yield from tensors_of(item, f'{name}/{key}')


def test_a_checkpoint_holds_no_teacher_and_loads_into_the_plain_classifier(folder):
    checkpoint = load(folder / 'run/epoch_3.pth')
    plain = build(folder / 'plain.py')
    assert type(plain).__name__ == 'ImageClassifier'
    plain.load_state_dict(checkpoint['state_dict'], strict=True)
    names = plain.state_dict().keys()
    assert {n.removeprefix('module.') for n in checkpoint['ema_state_dict']} == {*names, 'steps'}
    of_student = {value.shape for value in plain.state_dict().values()}
    of_teacher = {value.shape for value in load(folder / 'lost.pth')['state_dict'].values()}
    found = {value.shape for _, value in tensors_of(checkpoint)}
    assert of_student <= found
    assert not found & {shape for shape in of_teacher - of_student if len(shape) > 1}


def test_the_log_tells_the_loss_from_labels_and_that_from_the_teacher(folder):
    (scalars,) = (folder / 'run').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    training = [record for record in records if 'loss' in record]
    assert len(training) == 9
    for record in training:
        parts = record['base_loss'], record['distillation_loss']
        assert min(parts) > 0
        assert sum(parts) == pytest.approx(record['loss'], rel=1e-4)


def test_the_log_names_the_teacher(folder):
    (log,) = (folder / 'run').glob('*/*.log')
    line = re.search('Teacher: .*', log.read_text())[0]
    assert str(TEACHER) in line
    assert str(folder / 'teacher.pth') in line


@pytest.mark.parametrize('config', ['plain', 'distilled'])
def test_testing_needs_no_teacher(config, folder, run_tool, tmp_path):
    run_tool(
        *('test.py', folder / f'{config}.py', folder / 'run/epoch_3.pth', '--work-dir', tmp_path),
        *('--out', tmp_path / 'm.json', '--out-item', 'metrics'),
        *('--cfg-options', f'experiment_name=test_{config}'),
    )
    (log,) = (folder / 'run').glob('*/*.log')
    trained = re.findall(r' accuracy/top1: ([\d.]+)', log.read_text())[-1]
    metrics = json.loads((tmp_path / 'm.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(float(trained), abs=1e-4)


def test_training_without_the_teachers_weights_ends_with_a_line(folder, run_tool, tmp_path):
    with pytest.raises(SystemExit, match=r'^error: the teacher, .* there is no .*teacher\.pth'):
        run_tool(
            *('train.py', folder / 'distilled.py', '--work-dir', tmp_path),
            *('--cfg-options', 'experiment_name=lost'),
        )
    assert not list(tmp_path.glob('*.pth'))


def test_training_resumes_bit_for_bit(folder, run_tool, tmp_path):
    run_tool(
        *('train.py', folder / 'distilled.py', '--work-dir', tmp_path),
        *('--resume', folder / 'run/epoch_1.pth', '--cfg-options', 'experiment_name=resumed'),
        f'model.teacher.checkpoint={folder / "lost.pth"}',
    )
    resumed, straight = load(tmp_path / 'epoch_3.pth'), load(folder / 'run/epoch_3.pth')
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'random_states'):
        pairs = zip(tensors_of(resumed[key]), tensors_of(straight[key]), strict=True)
        assert all(one == other and torch.equal(a, b) for (one, a), (other, b) in pairs), key


def test_deit_small_trains_and_validates_with_a_teacher_of_timm(run_tool, tmp_path):
    """With a small one, at its own size, in the place of RegNetY-160."""
    make_imagenet(tmp_path)
    torch.save(timm.create_model('test_resnet.r160_in1k').state_dict(), tmp_path / 'teacher.pth')
    options = {
        **HERE,
        **IN1K,
        'model.teacher.model': 'test_resnet.r160_in1k',
        'model.teacher.checkpoint': tmp_path / 'teacher.pth',
        'train_dataloader.dataset.data_root': tmp_path,
        'val_dataloader.dataset.data_root': tmp_path,
        'experiment_name': 'deit_distilled',
        'visualizer.name': 'deit_distilled',
    }
    run_tool(
        *('train.py', ROOT / 'configs/distill/deit-small_distilled_4xb256-300e_in1k.py'),
        *('--work-dir', tmp_path / 'run', '--cfg-options'),
        *(f'{key}={value}' for key, value in options.items()),
    )
    (scalars,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [record['distillation_loss'] for record in records if 'loss' in record]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert any('accuracy/top1' in record for record in records)
