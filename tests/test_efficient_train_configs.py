"""The configs of EfficientTrain keep to its recipe, and tell what it saves."""

import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from config_reading import CONFIGS, build_on_meta, learning_rates, load, steps
from mmengine.optim import build_optim_wrapper
from tiny_run import ROOT

from mmvitlin.curricula.hook import plan_config

FOLDER = ROOT / 'configs/efficient_train'
PATHS = [path for path in CONFIGS if '/efficient_train/' in path]
DEIT = {
    f'deit-{arch}_efftrain{toe}_8xb256-accum2-300e_in1k': (f'deit-{arch}', width)
    for arch, width in (('tiny', 192), ('small', 384))
    for toe in ('', '_toe')
}
L2VIT = 'l2vit-tiny_efftrain_8xb128-accum4-300e_in1k'
TOKEN_EXPANSION = dict(
    type='mmvitlin.TokenExpansionHook',
    expansion_step=(0, 100, 200),
    keep_rate=(0.6, 0.8, 1.0),
    initialization_keep_rate=0.3,
)


def hooks_by_type(cfg):
    return {hook['type']: hook for hook in cfg.to_dict()['custom_hooks']}


def test_every_config_is_held_to_the_recipe():
    assert {Path(path).stem for path in PATHS} == {*DEIT, L2VIT}


def test_the_readme_links_every_config_and_names_no_other():
    readme = (FOLDER / 'README.md').read_text()
    files = {path.name for path in FOLDER.glob('*.py')}
    assert set(re.findall(r'\]\(([^:)/]+\.py)\)', readme)) == files
    assert set(re.findall(r'configs/efficient_train/([\w.-]+\.py)', readme)) <= files


@pytest.mark.parametrize('path', PATHS)
def test_the_curriculum_is_the_papers(path):
    cfg = load(path)
    hook = hooks_by_type(cfg)['mmvitlin.EfficientTrainHook']
    assert hook['input_size'] == (160, 160, 160, 192, 224)
    assert hook['magnitude_level'] == (1, 3, 5, 7, 9)
    assert 'stage_step' not in hook and cfg.train_cfg.max_epochs == 300
    small = cfg.train_dataloader.batch_size
    assert hook['batch_size'] == (2 * small,) * 3 + (small,) * 2
    assert cfg.optim_wrapper.accumulative_counts % 2 == 0
    assert cfg.auto_scale_lr.base_batch_size == 4096
    assert steps(cfg, 'RandomResizedCrop')[0].scale == 224
    (augment,) = steps(cfg, 'RandAugment')
    assert (augment.magnitude_level, augment.total_level, augment.magnitude_std) == (9, 10, 0.5)


@pytest.mark.parametrize('path', PATHS)
def test_token_expansion_is_in_the_configs_that_are_named_so(path):
    found = hooks_by_type(load(path)).get('mmvitlin.TokenExpansionHook')
    assert found == (TOKEN_EXPANSION if '_toe_' in path else None)


@pytest.mark.parametrize('name', DEIT)
def test_deits_recipe(name):
    cfg, (arch, width) = load(f'configs/efficient_train/{name}.py'), DEIT[name]
    model = build_on_meta(cfg)
    assert cfg.model.backbone.arch == arch and cfg.model.backbone.drop_path_rate == 0.1
    assert model.head.fc.in_features == width
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert cfg.model.train_cfg.augments == [
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]
    settings = dict(deepcopy(cfg.optim_wrapper), type='OptimWrapper')  # mixed wants a GPU
    optimizer = build_optim_wrapper(model, settings).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            still = parameter.ndim < 2 or 'cls_token' in name or 'pos_embed' in name
            assert group['lr'] == 4e-3
            assert group['weight_decay'] == (0 if still else 0.05), name


@pytest.mark.parametrize('path', PATHS)
def test_learning_rate_warms_up_for_20_epochs_and_falls_along_a_cosine(path):
    rates = learning_rates(load(path), 300, 10)
    assert rates[199:201] == pytest.approx([4e-3, 4e-3])
    assert rates[100] == pytest.approx(2e-3, rel=0.02)
    assert rates[1600] == pytest.approx((4e-3 + 1e-6) / 2, rel=0.01)
    assert rates[-1] == pytest.approx(1e-6, rel=0.1)


def test_l2vits_recipe_is_its_own():
    ours = load(f'configs/efficient_train/{L2VIT}.py').to_dict()
    own = load('configs/l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py').to_dict()
    hooks = ours.pop('custom_hooks')
    assert hooks[:-1] == own.pop('custom_hooks')
    assert ours == own


@pytest.mark.parametrize('path', PATHS)
def test_header_and_readme_tell_the_bound(path):
    cfg = load(path)
    plan = plan_config(cfg)
    header = Path(cfg.filename).read_text().split('"""')[1]
    assert f'at most {1 / plan.compute:.3f} times faster' in header
    rows = (FOLDER / 'README.md').read_text().splitlines()
    (row,) = (row for row in rows if f'({Path(path).name})' in row)
    flops = ', '.join(f'{stage.cost.multiply_adds / 1e9:.2f}' for stage in plan.stages)
    assert f'| {flops} | {plan.compute:.3f} | {1 / plan.compute:.3f}x |' in row


def test_digits_add_the_curriculum_alone():
    baseline = load('configs/quickstart/vit-micro_1xb64_digits-28px.py').to_dict()
    ours = load('configs/quickstart/vit-micro_efftrain_1xb64_digits-28px.py').to_dict()
    *others, hook = ours.pop('custom_hooks')
    assert others == baseline.pop('custom_hooks')
    assert ours == baseline
    assert [side * 8 for side in hook['input_size']] == [160, 160, 160, 192, 224]
