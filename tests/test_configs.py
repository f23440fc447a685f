"""Every config in configs/ builds and agrees with its name and header."""

import re

import pytest
import torch
from config_reading import CONFIGS, innermost, load
from mmengine.registry import DATASETS, DefaultScope
from reduced_configs import MASKED, TWO_VIEWS
from tiny_run import ROOT

from mmvitlin.engine.cost import build_on_meta, empty_frozen_weights

pytestmark = pytest.mark.slow

UNLABELLED = (*MASKED, *TWO_VIEWS)  # which read no labels, and so test nothing
FOLDERS = sorted({path.split('/')[1] for path in CONFIGS} - {'quickstart'})


@pytest.fixture(params=CONFIGS)
def cfg(request):
    cfg = load(request.param)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        yield cfg


def test_every_pipeline_builds(cfg):
    assert cfg.train_dataloader and (cfg.test_dataloader or cfg.model.type in UNLABELLED)
    for split in ('train', 'val', 'test'):
        if cfg[f'{split}_dataloader'] is not None:
            dataset = innermost(cfg[f'{split}_dataloader'].dataset)
            for part in (dataset, dataset.get('dataset', dataset)):
                part.lazy_init = True  # read no data
            assert DATASETS.build(dataset).pipeline.transforms


def test_every_config_validates_with_all_that_takes_or_not_at_all(cfg):
    assert len({cfg[key] is None for key in ('val_dataloader', 'val_evaluator', 'val_cfg')}) == 1


def test_every_config_saves_safely(cfg):
    assert cfg.default_hooks.checkpoint.type == 'mmvitlin.SafeCheckpointHook'


@pytest.mark.parametrize('path', [path for path in CONFIGS if '/robustness/' not in path])
def test_every_learning_rate_is_for_the_batch_that_the_name_tells(path):
    cfg = load(path)
    named = re.search(r'_(\d+)xb(\d+)(?:-accum(\d+))?[-_]', path)
    if named:
        gpus, per_gpu, accumulation = map(int, named.groups(default=1))
    else:  # mmdetection's names leave 8 x 2 out; the quickstart runs on one device
        gpus = 1 if '/quickstart/' in path else 8
        per_gpu, accumulation = cfg.train_dataloader.batch_size if gpus == 1 else 2, 1
    assert cfg.train_dataloader.batch_size == per_gpu
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == accumulation
    assert cfg.auto_scale_lr.base_batch_size == gpus * per_gpu * accumulation
    assert not cfg.auto_scale_lr.get('enable', False)


@pytest.mark.parametrize('path', CONFIGS)
def test_every_config_says_what_it_is_and_how_to_run_it(path):
    header = (ROOT / path).read_text().split('"""')[1]
    gpus = re.search(r'_(\d+)xb', path)
    dist = f'tools/dist_train.sh {path} {gpus[1] if gpus else 8}'
    test = f'tools/dist_test.sh {path} CHECKPOINT 4'
    if '/robustness/' in path:
        assert test in header
    else:
        assert f'tools/train.py {path}' in header or dist in header


@pytest.mark.parametrize('folder', FOLDERS)
def test_the_readme_links_every_config_and_names_no_other(folder):
    readme = (ROOT / f'configs/{folder}/README.md').read_text()
    files = {path.split('/')[-1] for path in CONFIGS if f'/{folder}/' in path}
    assert set(re.findall(r'\]\(([^:)/]+\.py)\)', readme)) == files
    assert set(re.findall(rf'configs/{folder}/([\w.-]+\.py)', readme)) <= files


def is_dense(path):
    return load(path).default_scope in ('mmdet', 'mmseg')


@pytest.mark.parametrize('path', list(filter(is_dense, CONFIGS)))
def test_heads_take_maps_of_the_strides_that_the_backbone_gives(path):
    """Classifiers run whole where their FLOPs are counted."""
    cfg = load(path)
    model = build_on_meta(cfg).eval()
    empty_frozen_weights(model)
    images = torch.empty(1, 3, 64, 96, device='meta')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        features = model.extract_feat(images)
        if cfg.default_scope == 'mmseg':
            assert model.decode_head(features).shape[1] == model.decode_head.num_classes
            assert model.auxiliary_head(features).shape[1] == model.decode_head.num_classes
        elif cfg.model.backbone.type == 'mmvitlin.YOLOSViT':
            (logits,), (boxes,) = model.bbox_head(features)
            assert logits.shape == (*boxes.shape[:2], model.bbox_head.num_classes + 1)
            assert boxes.shape == (1, cfg.model.backbone.num_det_tokens, 4)
        else:
            head = model.rpn_head if cfg.model.type == 'MaskRCNN' else model.bbox_head
            strides = [stride for stride, _ in head.prior_generator.strides]
            assert len(features) == len(strides)
            assert [96 // feature.shape[3] for feature in features[:3]] == strides[:3]
            assert len(head(features)[0]) == len(strides)
