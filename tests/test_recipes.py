"""Every full-size config trains by the recipe of its paper: one table, read from the config."""

import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from config_reading import CONFIGS, learning_rates, load, steps
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmvitlin.engine.cost import build_on_meta

pytestmark = pytest.mark.slow

# Robustness trains nothing; test_selfsup_configs.py holds pre-training to mmpretrain's recipes.
FULL_SIZE = [
    path.removeprefix('configs/')
    for path in CONFIGS
    if not any(f'/{folder}/' in path for folder in ('quickstart', 'robustness', 'selfsup'))
]
# The originals' learning rates, computed by their own schedulers: of every epoch, or of every 500th
# optimizer step and the last one.
ORIGINAL_RATES = json.loads((Path(__file__).parent / 'data/learning_rates.json').read_text())
BOTH = ('average', 'raw')
MIXUP = (('Mixup', 0.8), ('CutMix', 1.0))


def everything(name: str, parameter: torch.Tensor) -> bool:
    return True


def only_matrices(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1


def all_but_tokens_and_first_positions(name: str, parameter: torch.Tensor) -> bool:
    if name.startswith('bbox_head.'):
        return True
    return parameter.ndim > 1 and not re.fullmatch(r'backbone\.(\w+_token|pos_embed)', name)


def only_matrices_of_layers(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and '_token' not in name and 'pos_embed' not in name


class Recipe(NamedTuple):
    """How a config trains.

    Attributes:
        lr, weight_decay: of the optimizer; layers nearer to the input may have lower rates.
        decays: tells which parameters decay.
        batch: images of an optimizer step, over all GPUs.
        length: epochs, or iterations where `by_epoch` is False.
        warmup: iterations, or the original whose learning rates are in data/learning_rates.json.
        average: momentum of the moving average of the weights; None without.
        dtype: of mixed precision; None for float32.
        evaluates: what is evaluated, the raw model, the average, or both.
        clip: the largest norm of the gradients; None without.
        augments: of batches.
        smoothing: of labels; None where another loss is used.
        repeats: of repeated augmentation; 1 without.
        sizes: pixels of training images, and of resizing and cropping at evaluation.
        optimizer: its class.
    """

    lr: float
    weight_decay: float
    batch: int
    length: int
    warmup: int | str
    decays: Callable = only_matrices_of_layers
    average: float | None = None
    dtype: str | None = 'float16'
    evaluates: tuple = ('raw',)
    clip: float | None = None
    augments: tuple = MIXUP
    smoothing: float | None = 0.1
    repeats: int = 1
    sizes: tuple = (224, 256, 224)
    optimizer: type = torch.optim.AdamW


DEIT = Recipe(1e-3, 0.05, 1024, 300, 'deit', average=4e-5, repeats=3)
L2VIT = Recipe(
    4e-3, 0.05, 4096, 300, 'l2vit', only_matrices, dtype=None, average=1e-4, evaluates=BOTH
)
TUNED = Recipe(
    4e-5,
    1e-8,
    1024,
    30,
    'l2vit_fine-tuning',
    only_matrices,
    dtype=None,
    average=1e-4,
    evaluates=BOTH,
)
COCO = Recipe(1e-4, 0.05, 16, 12, 500, dtype=None, augments=(), smoothing=None, sizes=())
ADE20K = Recipe(6e-5, 0.01, 16, 160_000, 1500, dtype=None, augments=(), smoothing=None, sizes=())
LVVIT = Recipe(
    *(1.6e-3, 0.05, 1024, 310, 'lvvit'),
    average=8e-5,
    evaluates=('average',),
    augments=(),
    smoothing=None,
    sizes=(224, 248, 224),
)
YOLOS = Recipe(
    *(2.5e-5, 1e-4, 8, 150, 0),
    dtype=None,
    decays=all_but_tokens_and_first_positions,
    clip=0.1,
    augments=(),
    smoothing=None,
    sizes=(),
)
DEIT_TUNED = DEIT._replace(
    lr=5e-6, weight_decay=1e-8, batch=512, length=30, warmup='deit_fine-tuning', evaluates=BOTH
)
LVVIT_TUNED = DEIT_TUNED._replace(
    warmup='lvvit_fine-tuning',
    average=None,
    evaluates=('raw',),
    augments=(),
    smoothing=None,
    repeats=1,
)
EFFICIENT = Recipe(4e-3, 0.05, 4096, 300, 'l2vit', clip=5.0)
MAE_TUNED = Recipe(2e-3, 0.05, 1024, 100, 'mae')
RECIPES = {
    'l2vit/l2vit-*_8xb128-accum4-300e_in1k.py': L2VIT,
    'l2vit/*_in1k-fsdp.py': L2VIT._replace(average=None, evaluates=('raw',)),
    'l2vit/l2vit-base_8xb128-90e_in21k.py': Recipe(
        1e-3, 0.05, 1024, 90, 'l2vit_in21k', only_matrices, dtype=None
    ),
    'l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k.py': TUNED,
    'l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k-384px.py': TUNED._replace(
        sizes=(384, 384, None)
    ),
    'l2vit/*_1x_coco.py': COCO._replace(decays=everything),
    'l2vit/*_3x_coco.py': COCO._replace(length=36, decays=everything),
    'l2vit/*_ade20k-512x512.py': ADE20K._replace(decays=everything),
    'lion/*_in1k.py': DEIT,
    'lion/*_coco.py': COCO,
    'lion/*_ade20k-512x512.py': ADE20K,
    'toe/*-300e_in1k.py': DEIT._replace(evaluates=BOTH),
    'toe/*-384px.py': DEIT_TUNED._replace(sizes=(384, 438, 384)),
    'toe/*_cifar10*.py': DEIT._replace(
        lr=0.01,
        weight_decay=1e-4,
        batch=768,
        length=1000,
        warmup='cifar',
        evaluates=BOTH,
        optimizer=torch.optim.SGD,
    ),
    'toe/mae-*.py': MAE_TUNED,
    'toe/dinov2-*.py': MAE_TUNED._replace(lr=5e-4, length=50),  # no paper's
    'distill/*.py': DEIT,
    'vit_llama/*_in1k.py': DEIT._replace(warmup='vit_llama'),
    'vit_llama/*_in1k-tar.py': DEIT._replace(warmup='vit_llama'),
    'vit_llama/*_in1k-fsdp.py': DEIT._replace(warmup='vit_llama', average=None, dtype='bfloat16'),
    'vit_llama/*_ade20k-512x512.py': ADE20K,
    'lvvit/lvvit-[st]*-300e_in1k.py': LVVIT,
    'lvvit/lvvit-medium_*-300e_in1k.py': LVVIT._replace(sizes=(224, 224, 224)),
    'lvvit/lvvit-large_*-300e_in1k.py': LVVIT._replace(
        lr=1e-3, warmup='lvvit-large', sizes=(224, 224, 224)
    ),
    'lvvit/lvvit-small_*-384px.py': LVVIT_TUNED._replace(sizes=(384, 426, 384)),
    'lvvit/lvvit-medium_*-384px.py': LVVIT_TUNED._replace(sizes=(384, 384, 384)),
    'lvvit/lvvit-*-448px.py': LVVIT_TUNED._replace(sizes=(448, 448, 448)),
    'lvvit/*_upernet_8xb4-160k_*.py': ADE20K._replace(batch=32, dtype='float16', decays=everything),
    'lvvit/*_upernet_8xb2-160k_*.py': ADE20K._replace(dtype='float16', decays=everything),
    'efficient_train/deit-*.py': EFFICIENT,
    'efficient_train/swin-*.py': EFFICIENT._replace(decays=only_matrices),
    'efficient_train/convnext-*.py': L2VIT,
    'efficient_train/resnet50_*.py': L2VIT._replace(average=None, evaluates=('raw',)),
    'efficient_train/l2vit-*.py': L2VIT,
    'yolos/yolos-tiny_*.py': YOLOS._replace(lr=5e-5, batch=16, length=300),
    'yolos/yolos-small_*.py': YOLOS,
    'yolos/yolos-base_*.py': YOLOS,
}
# The rate of stochastic depth, where it differs from 0.1.
DROP_PATHS = {
    'l2vit/l2vit-small_8xb128-accum4-300e_in1k.py': 0.2,
    'l2vit/l2vit-base_8xb128-accum4-300e_in1k*.py': 0.3,
    'l2vit/l2vit-base_*8xb*_in21k.py': 0.2,
    'l2vit/l2vit-base_in21k-pre_*.py': 0.2,
    'l2vit/*-base_fpn_1x_coco.py': 0.2,
    'l2vit/*-tiny_fpn_3x_coco.py': 0.2,
    'l2vit/*-small_fpn_3x_coco.py': 0.2,
    'l2vit/*-base_fpn_3x_coco.py': 0.3,
    'l2vit/*_ade20k-512x512.py': 0.3,
    'lion/lion-s-natural-base_upernet_*.py': 0.2,
    'lion/mask-rcnn_lion-s-natural-base_*.py': 0.2,
    'lvvit/lvvit-medium_*.py': 0.2,
    'yolos/*.py': 0,
    'lvvit/lvvit-large_8xb*.py': 0.3,
    'lvvit/lvvit-large_upernet_*.py': 0.5,
    'toe/*_cifar10*.py': 0.0,
    'efficient_train/resnet50_*.py': 0.0,
    'efficient_train/convnext-small_*.py': 0.4,
    'efficient_train/convnext-base_*.py': 0.5,
    'efficient_train/swin-tiny_*.py': 0.2,
    'efficient_train/swin-small_*.py': 0.3,
    'efficient_train/swin-base_*.py': 0.5,
}
# How much the learning rate falls per layer towards the input, where it does.
LAYER_DECAY = {
    'lion/*_coco.py': 0.7,
    'lion/*_ade20k-512x512.py': 0.75,
    'vit_llama/*_ade20k-512x512.py': 0.75,
    'toe/mae-*.py': 0.65,
    'toe/dinov2-*.py': 0.75,
}


def find(table, path, default=None):
    """Look a path up in a table by pattern; at most one may match."""
    matches = [value for pattern, value in table.items() if fnmatch(path, pattern)]
    assert len(matches) <= 1, path
    return matches[0] if matches else default


def load_full_size(path):
    return load(f'configs/{path}')


@pytest.mark.parametrize('table', [RECIPES, DROP_PATHS, LAYER_DECAY])
def test_every_row_is_of_a_config(table):
    assert all(any(fnmatch(path, pattern) for path in FULL_SIZE) for pattern in table)


def read_recipe(cfg, path):
    """Read from a config all of its recipe but the schedule and the decay."""
    hooks = cfg.get('custom_hooks', [])
    average = [hook for hook in hooks if hook.type == 'mmvitlin.AverageHook']
    augments = (cfg.model.get('train_cfg') or {}).get('augments') or []
    classifies = cfg.default_scope == 'mmpretrain'
    head = cfg.model.get('head') or {}
    resize = next(
        found
        for name in ('ResizeEdge', 'Resize', 'mmvitlin.ResizeToPatches')
        if (found := steps(cfg, name, 'test'))
    )
    crop = steps(cfg, 'CenterCrop', 'test')
    sizes = (
        steps(cfg, 'RandomResizedCrop')[0].scale if classifies else None,
        resize[0].scale,
        crop[0].crop_size if crop else None,
    )
    return dict(
        lr=cfg.optim_wrapper.optimizer.lr,
        weight_decay=cfg.optim_wrapper.optimizer.weight_decay,
        batch=cfg.auto_scale_lr.base_batch_size,
        length=cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters,
        average=average[0].momentum if average else None,
        dtype=cfg.optim_wrapper.get('dtype'),
        evaluates=tuple(average[0].evaluate) if average else ('raw',),
        clip=cfg.optim_wrapper.get('clip_grad', {}).get('max_norm'),
        augments=tuple((augment.type, augment.alpha) for augment in augments),
        smoothing=head.get('loss', {}).get('label_smooth_val'),
        repeats=cfg.train_dataloader.sampler.get('num_repeats', 1),
        sizes=sizes if classifies else (),
    )


@pytest.mark.parametrize('path', FULL_SIZE)
def test_settings_are_the_recipes(path):
    cfg, recipe = load_full_size(path), find(RECIPES, path)
    assert recipe is not None
    found = read_recipe(cfg, path)
    assert found == {key: getattr(recipe, key) for key in found}
    vit = cfg.model.backbone.get('vit', cfg.model.backbone)
    assert vit.get('drop_path_rate', 0) == find(DROP_PATHS, path, 0.1)
    assert cfg.model.backbone.get('drop_path_rate', 0.0) == find(DROP_PATHS, path, 0.1)


@pytest.mark.parametrize('path', [p for p in FULL_SIZE if '_in' in p or '_cifar' in p])
def test_images_are_augmented_as_deits(path):
    cfg = load_full_size(path)
    (augment,) = steps(cfg, 'RandAugment')
    moves = 3 if path.startswith('lvvit/lvvit-large_8xb128') else 2
    assert (augment.policies, augment.num_policies) == ('timm_increasing', moves)
    assert (augment.total_level, augment.magnitude_level, augment.magnitude_std) == (10, 9, 0.5)
    erasing = [(step.erase_prob, step.mode) for step in steps(cfg, 'RandomErasing')]
    assert erasing == ([] if '_cifar' in path else [(0.25, 'rand')])


COCO_PATHS = [path for path in FULL_SIZE if path.endswith('_coco.py')]
YOLOS_PATHS = [path for path in COCO_PATHS if path.startswith('yolos/')]


@pytest.mark.parametrize('path', [path for path in COCO_PATHS if path not in YOLOS_PATHS])
def test_detection_augmentation_is_detrs(path):
    cfg = load_full_size(path)
    (choice,) = steps(cfg, 'RandomChoice')
    (whole,), (shrink, crop, grow) = choice.transforms
    sizes = [(1333, short) for short in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
    assert whole.scales == grow.scales == sizes
    assert [short for _, short in shrink.scales] == [400, 500, 600]
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    assert whole.keep_ratio and shrink.keep_ratio and grow.keep_ratio
    assert steps(cfg, 'Resize', 'test')[0].scale == (1333, 800)


@pytest.mark.parametrize('path', YOLOS_PATHS)
def test_yolos_augments_as_detr_at_whole_patches(path):
    cfg = load_full_size(path)
    (choice,) = steps(cfg, 'RandomChoice')
    (whole,), (shrink, crop, grow) = choice.transforms
    tiny = 'tiny' in path
    long, lowest, highest = (1013, 256, 608) if tiny else (1333, 480, 800)
    assert whole.scales == grow.scales == [(long, s) for s in range(lowest, highest + 1, 16)]
    assert [short for _, short in shrink.scales] == [400, 500, 600]
    assert min(long for long, _ in shrink.scales) > 9000  # limits nothing
    assert (crop.crop_type, crop.crop_size) == ('absolute_range', (384, 600))
    for step in (whole, shrink, grow):
        assert step.resize_type == 'mmvitlin.ResizeToPatches'
    (resize,) = steps(cfg, 'mmvitlin.ResizeToPatches', 'test')
    assert resize.scale == ((853, 512) if tiny else (1333, 800))
    assert not cfg.train_dataloader.dataset.filter_cfg.filter_empty_gt
    assert cfg.val_dataloader.batch_size == cfg.train_dataloader.batch_size == 1 + tiny


@pytest.mark.parametrize('path', YOLOS_PATHS)
def test_yolos_expands_tokens_where_its_name_says_so(path):
    (hook,) = load_full_size(path).get('custom_hooks', [None])
    steps = (5, 100, 200) if 'tiny' in path else (5, 50, 100)
    expected = dict(type='mmvitlin.TokenExpansionHook', expansion_step=steps)
    assert hook == (expected if '_toe_' in path else None)


@pytest.mark.parametrize('path', YOLOS_PATHS)
def test_the_rate_of_yolos_falls_along_a_cosine_an_epoch_late(path):
    recipe = find(RECIPES, path)
    rates = learning_rates(load_full_size(path), recipe.length, 1)
    low, epochs = 1e-7, recipe.length
    expected = [
        low + (recipe.lr - low) * (1 + math.cos(math.pi * max(e - 1, 0) / epochs)) / 2
        for e in range(epochs)
    ]
    assert rates == pytest.approx(expected)


def layer_depth(name, num_layers=12):
    """The depth of a parameter of a plain ViT's detector or segmentor, 0 next to the image."""
    if re.match(r'backbone\.(patch_embed|cls_token|pos_embed)', name):
        return 0
    layer = re.match(r'backbone\.layers\.(\d+)\.', name)
    return int(layer[1]) + 1 if layer else num_layers + 1


@pytest.mark.parametrize('path', FULL_SIZE)
def test_every_parameter_has_the_recipes_rate_and_decay(path):
    cfg, recipe, fall = load_full_size(path), find(RECIPES, path), find(LAYER_DECAY, path, 1)
    model = build_on_meta(cfg)
    optimizer = build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)).optimizer
    assert type(optimizer) is recipe.optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = groups[id(parameter)]
        rate = recipe.lr * fall ** (13 - layer_depth(name)) if fall < 1 else recipe.lr
        assert group['lr'] == pytest.approx(rate), name
        decay = recipe.weight_decay * recipe.decays(name, parameter)
        assert group['weight_decay'] == decay, name


@cache
def rates_of(settings, lr, count, epochs, epoch_length):
    """The learning rates of equal schedules, once; the settings come as JSON."""
    wrapper = dict(optimizer=dict(lr=lr), accumulative_counts=count)
    cfg = Config(dict(param_scheduler=json.loads(settings), optim_wrapper=wrapper))
    return learning_rates(cfg, epochs, epoch_length)


CLASSIFIERS = [path for path in FULL_SIZE if '_in' in path or '_cifar' in path]
MAE_PATHS = [path for path in CLASSIFIERS if find(RECIPES, path).warmup == 'mae']


@pytest.mark.parametrize('path', MAE_PATHS)
def test_the_rate_of_maes_fine_tuning_warms_up_for_five_epochs_before_a_cosine(path):
    recipe, steps = find(RECIPES, path), 50
    rates = learning_rates(load_full_size(path), recipe.length, steps)
    warm, low = 5 * steps, 1e-6
    times = [(i - warm) / (len(rates) - warm) for i in range(warm, len(rates))]
    cosine = [low + (recipe.lr - low) * (1 + math.cos(math.pi * t)) / 2 for t in times]
    assert rates[warm:] == pytest.approx(cosine, abs=recipe.lr / 1000)
    line = [recipe.lr * i / warm for i in range(warm)]
    assert rates[:warm] == pytest.approx(line, abs=1.1 * recipe.lr / warm)  # a step sooner


@pytest.mark.parametrize('path', MAE_PATHS)
def test_fine_tuning_expands_tokens_by_thirds_of_any_length(path):
    (hook,) = load_full_size(path).custom_hooks
    assert hook.type == 'mmvitlin.TokenExpansionHook'
    assert hook.expansion_step == (0, 1 / 3, 2 / 3)


@pytest.mark.parametrize('path', [path for path in CLASSIFIERS if path not in MAE_PATHS])
def test_the_rate_is_the_originals_throughout(path):
    cfg, recipe = load_full_size(path), find(RECIPES, path)
    original = ORIGINAL_RATES[recipe.warmup]
    count = cfg.optim_wrapper.get('accumulative_counts', 1)
    epochs = cfg.train_cfg.max_epochs
    epoch_length = original['steps_per_epoch'] * count if original['per'] == 'step' else 2
    settings = json.dumps(cfg.param_scheduler.to_dict())
    rates = rates_of(settings, cfg.optim_wrapper.optimizer.lr, count, epochs, epoch_length)
    assert cfg.optim_wrapper.optimizer.lr == original['lr']
    if original['per'] == 'epoch':
        assert rates[::2] == pytest.approx(original['rates'], rel=1e-6)
        assert rates[1::2] == rates[::2]
    else:
        steps = rates[::count]
        assert all(rates[first::count] == steps for first in range(count))
        assert steps[:: original['every']] == pytest.approx(original['rates'], rel=1e-6)
        assert steps[-1] == pytest.approx(original['last'], rel=1e-6)


@pytest.mark.parametrize('path', [path for path in COCO_PATHS if path not in YOLOS_PATHS])
def test_the_rate_of_detectors_falls_in_steps(path):
    recipe, length = find(RECIPES, path), 200  # iterations in an epoch
    rates = learning_rates(load_full_size(path), recipe.length, length)
    warm = recipe.warmup
    assert rates[:warm] == pytest.approx(
        [recipe.lr * (1 - (1 - i / warm) * (1 - 1e-3)) for i in range(warm)]
    )
    first, second = (epoch * length for epoch in {12: (8, 11), 36: (27, 33)}[recipe.length])
    assert rates[warm:first] == pytest.approx([recipe.lr] * (first - warm))
    assert rates[first:second] == pytest.approx([recipe.lr / 10] * (second - first))
    assert rates[second:] == pytest.approx([recipe.lr / 100] * (len(rates) - second))


def test_the_rate_of_segmentors_falls_along_a_line():
    rates = learning_rates(
        load_full_size('l2vit/l2vit-tiny_upernet_8xb2-160k_ade20k-512x512.py'), 1, 160_000
    )
    line = [6e-5 * (1 - i / 160_000) for i in range(160_000)]
    assert rates[1500:] == pytest.approx(line[1500:], abs=1e-9)
    warm = [line[i] * (1 - (1 - i / 1500) * (1 - 1e-6)) for i in range(1500)]
    assert rates[:1500] == pytest.approx(warm, abs=1e-9)


def test_every_segmentor_has_the_schedule_of_that_one():
    paths = [path for path in FULL_SIZE if path.endswith('_ade20k-512x512.py')]
    schedules = [load_full_size(path).param_scheduler for path in paths]
    assert all(schedule == schedules[0] for schedule in schedules)


VALIDATED = re.compile('_in1k|_cifar')


@pytest.mark.parametrize('path', [p for p in FULL_SIZE if VALIDATED.search(p)])
def test_the_best_checkpoint_of_each_model_that_is_evaluated_is_kept(path):
    cfg, recipe = load_full_size(path), find(RECIPES, path)
    best = ['accuracy/top1', *(f'{name}/accuracy/top1' for name in recipe.evaluates[1:])]
    found = cfg.default_hooks.checkpoint.save_best
    assert ([found] if isinstance(found, str) else found) == best


IMAGES = 1_281_167  # of ImageNet-1k
STEPS = {512: 2502, 1024: 1251, 4096: 312}  # of an epoch, by batch size, in the originals


@pytest.mark.parametrize('path', [path for path in FULL_SIZE if '_in1k' in path])
def test_an_epoch_has_as_many_steps_as_the_originals(path):
    cfg = load_full_size(path)
    gpus = int(re.search(r'_(\d+)xb', path)[1])
    loader, count = cfg.train_dataloader, cfg.optim_wrapper.get('accumulative_counts', 1)
    assert loader.drop_last
    images = -(-IMAGES // gpus)  # of a process
    if count > 1 and loader.sampler.type == 'mmvitlin.WholeStepSampler':
        assert loader.sampler.step_size == loader.batch_size * count
        images -= images % loader.sampler.step_size
    batches = images // loader.batch_size
    assert batches % count == 0
    assert batches // count == STEPS[cfg.auto_scale_lr.base_batch_size]
    assert gpus * loader.batch_size * count == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('path', FULL_SIZE)
def test_the_number_of_checkpoints_is_bounded(path):
    expected = 10 if path.startswith('lvvit/') and '_in1k' in path else 3
    assert load_full_size(path).default_hooks.checkpoint.max_keep_ckpts == expected


# Millions of parameters that learn, as published.
PARAMETERS = {
    'vit_llama/vit-tiny_*': 5.7,
    'distill/deit-tiny_*': 5.9,
    'distill/deit-base_*': 87.3,
    'vit_llama/vit-small_*': 22.1,
    'vit_llama/vit-base_*': 86.6,
    'vit_llama/vit-llama-tiny_*_in1k*': 7.3,
    'vit_llama/vit-llama-small_*_in1k*': 25.2,
    'vit_llama/vit-llama-base_*_in1k*': 92.9,
    'distill/deit-small_*': 22.4,
    'distill/lion-d-natural-base_*': 86.4,
    'yolos/yolos-tiny_*': 6.5,
    'yolos/yolos-small_*': 30.7,
    'yolos/yolos-base_*': 127.8,
    'lvvit/lvvit-small_*-384px*': 26.3,
    'lvvit/lvvit-medium_*-384px*': 56.0,
    'lvvit/lvvit-medium_*-448px*': 56.1,
    'lvvit/lvvit-large_*-448px*': 150.5,
    'lvvit/lvvit-small_upernet_*': 44.5,
    'lvvit/lvvit-medium_upernet_*': 77.3,
    'lvvit/lvvit-large_upernet_*': 208.6,
    'l2vit/retinanet_l2vit-tiny_*': 38.8,
}


@pytest.mark.parametrize('path', [path for path in FULL_SIZE if find(PARAMETERS, path)])
def test_as_many_parameters_learn_as_published(path):
    model = build_on_meta(load_full_size(path))
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert round(count / 1e6, 1) == find(PARAMETERS, path)
