"""The ImageNet configs of plain vision transformers keep to their recipes, most of them DeiT's."""

import re
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from config_reading import CONFIGS, build_on_meta, learning_rates, load, steps
from mmengine.optim import build_optim_wrapper
from tiny_run import ROOT

from mmvitlin.curricula.hook import plan_config

WIDTHS = {'tiny': 192, 'small': 384, 'base': 768}

# Folder -> configs, by the settings of their backbones that the paper gives.
LION = {
    f'lion-{name}-{arch}_4xb256-300e_in1k': dict(
        type='mmvitlin.LION', arch=arch, mask_type=mask_type, order=order
    )
    for name, mask_type, order in (
        ('lit', 'Lit', 'Normal'),
        ('d', 'Decay', 'Normal'),
        ('s', 'Selective', 'Normal'),
        ('d-natural', 'Decay', 'S'),
        ('s-natural', 'Selective', 'S'),
    )
    for arch in WIDTHS
}
TOE = {
    f'deit-{arch}{toe}_4xb256-300e_in1k': dict(type='VisionTransformer', arch=f'deit-{arch}')
    for arch in WIDTHS
    for toe in ('', '_toe')
}
VIT_LLAMA = {
    f'{name}-{arch}_4xb256-300e_in1k': settings
    for arch in WIDTHS
    for name, settings in (
        ('vit', dict(type='VisionTransformer', arch=f'deit-{arch}', patch_size=16)),
        ('vit-llama', dict(type='mmvitlin.ViTLLaMA', arch=arch)),
    )
}
DISTILL = {
    'deit-small_distilled_4xb256-300e_in1k': dict(
        type='DistilledVisionTransformer', arch='deit-small', patch_size=16
    ),
    'lion-d-natural-base_distilled_4xb256-300e_in1k': LION['lion-d-natural-base_4xb256-300e_in1k'],
}
LVVIT_WIDTHS = {'tiny': 240, 'small': 384, 'medium': 512}
LVVIT = {
    f'lvvit-{name}_8xb128-300e_in1k': dict(type='mmvitlin.LVViT', arch=name.removesuffix('_toe'))
    for name in (*LVVIT_WIDTHS, 'small_toe')
}
FOLDERS = {
    'distill': DISTILL,
    'lion': LION,
    'lvvit': LVVIT,
    'toe': TOE,
    'vit_llama': VIT_LLAMA,
}
RECIPES = {
    f'configs/{folder}/{name}.py': settings
    for folder, table in FOLDERS.items()
    for name, settings in table.items()
}


class Recipe(NamedTuple):
    """How the configs of a folder train: DeiT's recipe, where nothing else is said."""

    lr: float = 1e-3
    warmup: int = 5  # epochs
    average: float = 0.99996  # how much of the average of the weights stays
    sampler: dict = dict(type='RepeatAugSampler', num_repeats=3)
    augments: list[dict] | None = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    resize: int = 256  # before the crop of 224 for evaluation


TRAINED = {
    'distill': Recipe(),
    'lion': Recipe(),
    'lvvit': Recipe(
        lr=1.6e-3,
        average=0.99992,
        sampler=dict(type='DefaultSampler', shuffle=True),
        augments=None,
        resize=248,
    ),
    'toe': Recipe(),
    'vit_llama': Recipe(warmup=20),
}


def recipe_of(path):
    return TRAINED[path.split('/')[1]]


@pytest.mark.parametrize('folder', FOLDERS)
def test_every_config_is_held_to_the_recipe(folder):
    names = {Path(path).stem for path in CONFIGS if f'/{folder}/' in path}
    assert set(FOLDERS[folder]) == {name for name in names if name.endswith('_in1k')}


@pytest.mark.parametrize('folder', FOLDERS)
def test_the_readme_links_every_config_and_names_no_other(folder):
    readme = (ROOT / f'configs/{folder}/README.md').read_text()
    files = {Path(path).name for path in CONFIGS if f'/{folder}/' in path}
    assert set(re.findall(r'\]\(([^:)/]+\.py)\)', readme)) == files
    assert set(re.findall(rf'configs/{folder}/([\w.-]+\.py)', readme)) <= files


@pytest.mark.parametrize('path', RECIPES)
def test_settings_of_the_model(path):
    cfg, settings = load(path), RECIPES[path]
    model, backbone = build_on_meta(cfg), cfg.model.backbone
    default = {'order': 'Normal'}
    assert {key: backbone.get(key, default.get(key)) for key in settings} == settings
    assert backbone.drop_path_rate == (0.2 if backbone.arch == 'medium' else 0.1)
    width = (LVVIT_WIDTHS if backbone.type == 'mmvitlin.LVViT' else WIDTHS)[
        backbone.arch.removeprefix('deit-')
    ]
    for layer in (m for m in model.head.modules() if isinstance(m, torch.nn.Linear)):
        assert (layer.in_features, layer.out_features) == (width, 1000)
    assert cfg.data_preprocessor.num_classes == 1000
    if cfg.model.head.type == 'mmvitlin.TokenLabelHead':
        assert (model.head.cls_weight, model.head.dense_weight) == (1, 1)
        assert (model.head.smoothing, model.backbone.mix_token) == (0.1, True)
    else:
        assert cfg.model.head.loss.type == 'LabelSmoothLoss'
        assert cfg.model.head.loss.label_smooth_val == 0.1


@pytest.mark.parametrize('path', RECIPES)
def test_data_is_augmented_and_repeated_as_the_recipe_says(path):
    cfg, recipe = load(path), recipe_of(path)
    dataset = cfg.train_dataloader.dataset
    assert dataset.get('dataset', dataset).type == 'ImageNet'
    assert cfg.test_dataloader.dataset.type == 'ImageNet'
    assert cfg.train_dataloader.sampler == recipe.sampler
    assert cfg.model.get('train_cfg', {}).get('augments') == recipe.augments
    (augment,) = steps(cfg, 'RandAugment')
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    (erasing,) = steps(cfg, 'RandomErasing')
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    assert steps(cfg, 'RandomResizedCrop')[0].scale == 224
    assert steps(cfg, 'ResizeEdge', 'test')[0].scale == recipe.resize
    assert steps(cfg, 'CenterCrop', 'test')[0].crop_size == 224


@pytest.mark.parametrize('path', RECIPES)
def test_only_matrices_of_layers_decay(path):
    cfg = load(path)
    model = build_on_meta(cfg)
    optimizer = build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group['params']:
            name = names[id(parameter)]
            still = parameter.ndim < 2 or '_token' in name or 'pos_embed' in name
            assert group['lr'] == recipe_of(path).lr
            assert group['weight_decay'] == (0 if still else 0.05), name


@pytest.mark.parametrize('path', RECIPES)
def test_learning_rate_warms_up_and_falls_along_a_cosine(path):
    cfg, length, recipe = load(path), 20, recipe_of(path)
    rates = learning_rates(cfg, 300, length)
    warm, lr = recipe.warmup * length, recipe.lr
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.auto_scale_lr.base_batch_size == 1024
    assert rates[0] == pytest.approx(lr / 1000)
    assert rates[warm - 1 : warm + 1] == pytest.approx([lr, lr])
    assert rates[(warm + len(rates)) // 2] == pytest.approx((lr + 1e-5) / 2, rel=0.01)
    assert rates[-1] == pytest.approx(1e-5, rel=0.02)


@pytest.mark.parametrize('path', RECIPES)
def test_the_average_of_the_weights_is_the_recipes(path):
    (hook,) = (hook for hook in load(path).custom_hooks if hook.type == 'EMAHook')
    assert hook.momentum == pytest.approx(1 - recipe_of(path).average)
    assert hook.get('evaluate_on_ema', True)


# Folder and model -> the rates of token expansion.
DEIT_RATES = dict(keep_rate=(0.5, 0.75, 1.0), initialization_keep_rate=0.25)
LVVIT_RATES = dict(keep_rate=(0.4, 0.7, 1.0), initialization_keep_rate=0.2)
EXPANDED = {
    'toe/deit-tiny': DEIT_RATES,
    'toe/deit-small': DEIT_RATES,
    'toe/deit-base': DEIT_RATES,
    'lvvit/lvvit-small': LVVIT_RATES,
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
    assert others == baseline.pop('custom_hooks')
    assert expanded == baseline
    assert hook == dict(
        type='mmvitlin.TokenExpansionHook', expansion_step=(0, 100, 200), **EXPANDED[name]
    )


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
    assert [step / baseline['max_epochs'] for step in hook['expansion_step']] == [0, 1 / 3, 2 / 3]
