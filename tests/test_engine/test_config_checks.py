"""What contradicts itself in a config is refused in one line that names the key."""

import pytest
from config_reading import CONFIGS, load
from mmengine.config import Config

from mmvitlin.engine.config_checks import check_length, check_save_best
from mmvitlin.errors import ConfigError

QUICKSTARTS = [path for path in CONFIGS if '/quickstart/' in path]


@pytest.mark.parametrize('path', CONFIGS)
def test_every_config_passes(path):
    cfg = load(path)
    check_length(cfg)
    check_save_best(cfg)


@pytest.mark.parametrize('path', QUICKSTARTS)
def test_a_length_in_epochs_is_taken_or_the_key_is_named(path):
    cfg = load(path)
    cfg.train_cfg.max_epochs = 1
    if 'max_iters' not in cfg.train_cfg:
        check_length(cfg)
        return
    with pytest.raises(ConfigError, match=r'train_cfg\.max_epochs=1 .* set train_cfg\.max_iters$'):
        check_length(cfg)


def test_a_length_in_iterations_is_refused_where_epochs_count():
    cfg = Config(dict(train_cfg=dict(by_epoch=True, max_epochs=3, max_iters=9)))
    with pytest.raises(ConfigError, match=r'train_cfg\.max_iters=9 .* set train_cfg\.max_epochs$'):
        check_length(cfg)


@pytest.mark.parametrize('evaluate', [None, ['average']])
def test_a_best_metric_that_nothing_evaluates_is_refused(evaluate):
    hooks = [dict(type='mmvitlin.AverageHook', evaluate=evaluate)] if evaluate else []
    best = dict(checkpoint=dict(save_best=['accuracy/top1', 'raw/accuracy/top1']))
    with pytest.raises(ConfigError, match=r"save_best has 'raw/accuracy/top1'"):
        check_save_best(Config(dict(custom_hooks=hooks, default_hooks=best)))
