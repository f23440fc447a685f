"""Configs of token expansion and EfficientTrain add the curriculum alone and state its gain."""

from pathlib import Path

import pytest
from config_reading import CONFIGS, load, steps
from tiny_run import ROOT

from mmvitlin.curricula.hook import plan_config

FOLDER = ROOT / 'configs/efficient_train'
PATHS = [path for path in CONFIGS if '/efficient_train/' in path]
TOKEN_EXPANSION = dict(
    type='mmvitlin.TokenExpansionHook',
    expansion_step=(0, 100, 200),
    keep_rate=(0.6, 0.8, 1.0),
    initialization_keep_rate=0.3,
)


def hooks_by_type(cfg):
    return {hook['type']: hook for hook in cfg.to_dict()['custom_hooks']}


@pytest.mark.parametrize('path', PATHS)
def test_the_curriculum_is_the_papers(path):
    cfg = load(path)
    hook = hooks_by_type(cfg)['mmvitlin.EfficientTrainHook']
    assert hook['input_size'] == (160, 160, 160, 192, 224)
    assert hook['magnitude_level'] == (1, 3, 5, 7, 9)
    assert 'stage_step' not in hook and cfg.train_cfg.max_epochs == 300
    small = cfg.train_dataloader.batch_size
    assert hook['batch_size'] == (2 * small,) * 4 + (small,)
    assert cfg.optim_wrapper.accumulative_counts % 2 == 0
    assert cfg.auto_scale_lr.base_batch_size == 4096
    assert steps(cfg, 'RandomResizedCrop')[0].scale == 224
    (augment,) = steps(cfg, 'RandAugment')
    assert (augment.magnitude_level, augment.total_level, augment.magnitude_std) == (9, 10, 0.5)


@pytest.mark.parametrize('path', PATHS)
def test_token_expansion_is_in_the_configs_that_are_named_so(path):
    found = hooks_by_type(load(path)).get('mmvitlin.TokenExpansionHook')
    assert found == (TOKEN_EXPANSION if '_toe_' in path else None)


def test_l2vits_recipe_is_its_own():
    ours = load('configs/efficient_train/l2vit-tiny_efftrain_8xb128-accum4-300e_in1k.py').to_dict()
    own = load('configs/l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py').to_dict()
    hooks = ours.pop('custom_hooks')
    assert hooks[:-1] == own.pop('custom_hooks')
    assert ours == own


@pytest.mark.slow
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


# Folder and model -> the rates of token expansion.
DEIT_RATES = dict(keep_rate=(0.5, 0.75, 1.0), initialization_keep_rate=0.25)
LVVIT_RATES = dict(keep_rate=(0.4, 0.7, 1.0), initialization_keep_rate=0.2)
EXPANDED = {
    'toe/deit-tiny': DEIT_RATES,
    'toe/deit-small': DEIT_RATES,
    'toe/deit-base': DEIT_RATES,
    'lvvit/lvvit-tiny': LVVIT_RATES,
    'lvvit/lvvit-small': LVVIT_RATES,
    'lvvit/lvvit-medium': LVVIT_RATES,
}
SETTINGS = {'toe': '4xb256', 'lvvit': '8xb128'}


def with_and_without(name):
    """The configs of a model of `EXPANDED`, with token expansion and without."""
    gpus = SETTINGS[name.split('/')[0]]
    return [load(f'configs/{name}{toe}_{gpus}-300e_in1k.py') for toe in ('_toe', '')]


@pytest.mark.parametrize('name', EXPANDED)
def test_token_expansion_is_all_that_its_configs_add(name):
    expanded, baseline = (cfg.to_dict() for cfg in with_and_without(name))
    seed = 3407 if name.startswith('toe/') else None
    assert expanded['randomness'] == dict(seed=seed, deterministic=False)
    *others, hook = expanded.pop('custom_hooks')
    assert hook == expanded.pop('token_expansion')  # of the base file
    assert others == baseline.pop('custom_hooks')
    assert expanded == baseline
    assert hook == dict(
        type='mmvitlin.TokenExpansionHook', expansion_step=(0, 100, 200), **EXPANDED[name]
    )


@pytest.mark.slow
@pytest.mark.parametrize('name', EXPANDED)
def test_headers_of_token_expansion_tell_its_bound(name):
    cfg, _ = with_and_without(name)
    plan = plan_config(cfg)
    bound = 1 / plan.compute
    header = Path(cfg.filename).read_text().split('"""')[1]
    assert f'at most {bound:.3f} times faster' in header
    folder, model = name.split('/')
    row = next(
        line
        for line in (ROOT / f'configs/{folder}/README.md').read_text().splitlines()
        if line.startswith('|') and f'({model}_toe_' in line
    )
    flops = ', '.join(f'{stage.cost.multiply_adds / 1e9:.2f}' for stage in plan.stages)
    assert f'| {flops} | {bound:.3f}x |' in row


@pytest.mark.parametrize('name', ['vit-micro', 'lvvit-micro'])
def test_digits_with_token_expansion_scale_the_steps_to_their_epochs(name):
    baseline = load(f'configs/quickstart/{name}_1xb64_digits.py').to_dict()
    expanded = load(f'configs/quickstart/{name}_toe_1xb64_digits.py').to_dict()
    *others, hook = expanded.pop('custom_hooks')
    assert others == baseline.pop('custom_hooks')
    assert expanded == baseline
    assert [step / baseline['train_cfg']['max_epochs'] for step in hook['expansion_step']] == [
        0,
        1 / 3,
        2 / 3,
    ]
