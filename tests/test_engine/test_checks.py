"""Mistakes in a config are found before the run."""

import pytest
import torch
from config_reading import CONFIGS, load
from mmengine.config import Config
from mmengine.runner import Runner
from tiny_run import DEMO, tiny_config

from mmvitlin.engine import checks
from mmvitlin.engine.checks import check_built, check_options, check_testing, check_training
from mmvitlin.errors import ConfigError


@pytest.fixture
def said(monkeypatch):
    """Return the log messages."""
    lines = []
    monkeypatch.setattr(checks, 'print_log', lambda text, *_: lines.append(text))
    return lines


@pytest.mark.parametrize(
    'option', ['model.backbone.window_size', 'compile', 'tta_model.type', 'load_from', 'loader']
)
def test_options_that_exist_are_taken(option):
    check_options({option: 1}, Config.fromfile(DEMO))


@pytest.mark.parametrize(
    ('option', 'hint'),
    [
        ('modle.backbone.x', r'did you mean model\.backbone\.x\?'),
        ('optim_wraper.optimizer.lr', r'did you mean optim_wrapper\.optimizer\.lr\?'),
        ('xyzzy', 'the config has auto_scale_lr, '),
    ],
)
def test_an_option_that_exists_nowhere_is_refused(option, hint):
    with pytest.raises(ConfigError, match=f'there is no setting .*; {hint}'):
        check_options({option: 1}, Config.fromfile(DEMO))


@pytest.mark.slow
def test_every_config_of_ours_passes(tmp_path):
    for path in sorted(DEMO.parent.parent.glob('*/*.py')):
        if path.parent.name != '_base_':
            cfg = Config.fromfile(path)
            cfg.work_dir = str(tmp_path)
            check_training(cfg, has_accelerator=True)
            if cfg.get('test_dataloader'):  # pre-training has none
                check_testing(cfg)


@pytest.mark.parametrize(
    ('schedule', 'message'),
    [
        (dict(type='LinearLR', begin=3, end=3), r'param_scheduler\[0\] .* epoch 3 and ends at 3'),
        (
            dict(type='LinearLR', by_epoch=False, begin=9, end=5),
            'begins at iteration 9 and ends at 5',
        ),
    ],
)
def test_a_schedule_ends_after_it_begins(schedule, message, tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.param_scheduler = schedule
    with pytest.raises(ConfigError, match=message):
        check_training(cfg, has_accelerator=False)


@pytest.mark.parametrize('path', [path for path in CONFIGS if '/quickstart/' in path])
def test_a_length_in_epochs_is_taken_or_the_key_is_named(path, tmp_path):
    cfg = load(path)
    cfg.work_dir, cfg.train_cfg.max_epochs = str(tmp_path), 1
    if 'max_iters' not in cfg.train_cfg:
        check_training(cfg, has_accelerator=False)
        return
    with pytest.raises(ConfigError, match=r'train_cfg\.max_epochs=1 .* set train_cfg\.max_iters$'):
        check_training(cfg, has_accelerator=False)


def test_a_length_in_iterations_is_refused_where_epochs_count(tmp_path):
    cfg = tiny_config(tmp_path, train_cfg__max_iters=9)
    with pytest.raises(ConfigError, match=r'train_cfg\.max_iters=9 .* set train_cfg\.max_epochs$'):
        check_training(cfg, has_accelerator=False)


@pytest.mark.parametrize('evaluate', [None, ['average']])
def test_a_best_metric_that_nothing_evaluates_is_refused(evaluate, tmp_path):
    cfg = tiny_config(tmp_path)
    cfg.custom_hooks = [dict(type='mmvitlin.AverageHook', evaluate=evaluate)] if evaluate else []
    cfg.default_hooks.checkpoint.save_best = ['accuracy/top1', 'raw/accuracy/top1']
    with pytest.raises(ConfigError, match=r"save_best has 'raw/accuracy/top1'"):
        check_training(cfg, has_accelerator=False)


def built(tmp_path, **options):
    runner = Runner.from_cfg(tiny_config(tmp_path, **options))
    check_built(runner)


def test_more_classes_than_the_data_has_are_said(tmp_path, said):
    built(tmp_path, model__head__num_classes=12)
    assert said == [
        'model.head has num_classes=12, and the training data 10 classes: 2 are never seen'
    ]


def test_a_last_batch_of_one_image_under_batch_norm_is_said(tmp_path, said):
    built(tmp_path / 'one', train_dataloader__dataset__indices=49)
    assert len(said) == 1
    assert said[0].startswith('the last of 4 batches has 1 image, and BatchNorm cannot')
    said.clear()
    built(tmp_path / 'two', train_dataloader__dataset__indices=50)
    options = dict(train_dataloader__dataset__indices=49, train_dataloader__drop_last=True)
    built(tmp_path / 'dropped', **options)
    assert said == []


def test_heads_of_other_classes_are_left_alone():
    class Detector(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, count in dict(rpn_head=1, bbox_head=3, mask_head=1, neck=7).items():
                part = torch.nn.Identity()
                part.num_classes = count
                self.add_module(name, part)

    assert list(checks._heads(Detector())) == [('model.bbox_head', 3)]
