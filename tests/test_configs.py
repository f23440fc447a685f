"""Every config in configs/ builds: model, pipelines, and what trains it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from tiny_run import ROOT

CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)


@pytest.fixture(params=CONFIGS)
def cfg(request):
    cfg = Config.fromfile(ROOT / request.param)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        yield cfg


def test_there_are_configs():
    assert CONFIGS


def test_every_model_builds(cfg):
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_every_pipeline_builds(cfg):
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.lazy_init = True  # read no data
        assert DATASETS.build(dataset).pipeline.transforms


def test_every_config_saves_safely_and_scales_its_learning_rate(cfg):
    assert cfg.default_hooks.checkpoint.type == 'mmvitlin.SafeCheckpointHook'
    assert cfg.auto_scale_lr.base_batch_size > 0


@pytest.mark.parametrize('path', CONFIGS)
def test_every_config_says_what_it_is_and_how_to_run_it(path):
    header = (ROOT / path).read_text().split('"""')[1]
    assert f'tools/train.py {path}' in header
