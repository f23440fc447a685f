"""Every config in configs/ builds, and trains as its name and the paper's recipe say."""

import math
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from config_reading import CONFIGS, build_on_meta, innermost, learning_rates, steps
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from tiny_run import ROOT, tiny_config

from mmvitlin.errors import CheckpointError

BASE_WIDTHS = [128, 256, 512, 1024]
WIDTHS = {'tiny': [96, 192, 384, 768], 'small': [96, 192, 384, 768], 'base': BASE_WIDTHS}

# The recipes of L2ViT. A drop path that the paper does not give is ours: tiny and small on
# ImageNet-1k.
FROM_SCRATCH = dict(
    lr=4e-3, weight_decay=0.05, epochs=300, warmup=20, final_lr=1e-6, batch=4096, ema=True
)
PRETRAINING = dict(
    lr=1e-3, weight_decay=0.05, epochs=90, warmup=5, final_lr=1e-5, batch=1024, ema=False
)
FINE_TUNING = dict(
    lr=4e-5, weight_decay=1e-8, epochs=30, warmup=5, final_lr=4e-7, batch=1024, ema=True
)
SMALL_IMAGES = dict(size=224, window=7, classes=1000)
LARGE_IMAGES = dict(size=384, window=12, classes=1000, batch=512)
IMAGENET = {
    'l2vit-tiny_8xb128-accum4-300e_in1k': dict(
        FROM_SCRATCH | SMALL_IMAGES, arch='tiny', drop_path=0.1
    ),
    'l2vit-small_8xb128-accum4-300e_in1k': dict(
        FROM_SCRATCH | SMALL_IMAGES, arch='small', drop_path=0.2
    ),
    'l2vit-base_8xb128-accum4-300e_in1k': dict(
        FROM_SCRATCH | SMALL_IMAGES, arch='base', drop_path=0.3
    ),
    'l2vit-base_8xb128-90e_in21k': dict(
        PRETRAINING | SMALL_IMAGES, arch='base', drop_path=0.2, classes=21841
    ),
    'l2vit-base_in21k-pre_8xb128-30e_in1k': dict(
        FINE_TUNING | SMALL_IMAGES, arch='base', drop_path=0.2
    ),
    'l2vit-base_in21k-pre_8xb64-30e_in1k-384px': dict(
        FINE_TUNING | LARGE_IMAGES, arch='base', drop_path=0.2
    ),
}
DETECTION_DROP_PATHS = {
    '1x': {'tiny': 0.1, 'small': 0.1, 'base': 0.2},
    '3x': {'tiny': 0.2, 'small': 0.2, 'base': 0.3},
}
DETECTION_EPOCHS = {'1x': (12, [8, 11]), '3x': (36, [27, 33])}
DETECTION = [
    (detector, arch, schedule)
    for detector in ('mask-rcnn', 'retinanet')
    for arch in WIDTHS
    for schedule in DETECTION_DROP_PATHS
]


def l2vit_config(name):
    return Config.fromfile(ROOT / f'configs/l2vit/{name}.py')


@pytest.fixture(params=CONFIGS)
def cfg(request):
    cfg = Config.fromfile(ROOT / request.param)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        yield cfg


def test_there_are_configs():
    assert CONFIGS


def test_every_model_builds(cfg):
    model = build_on_meta(cfg)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_every_pipeline_builds(cfg):
    assert cfg.train_dataloader and cfg.test_dataloader
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


@pytest.mark.parametrize('path', CONFIGS)
def test_every_learning_rate_is_for_the_batch_that_the_name_tells(path):
    cfg = Config.fromfile(ROOT / path)
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
    assert f'tools/train.py {path}' in header or dist in header


@pytest.mark.parametrize('path', [path for path in CONFIGS if '/l2vit/' in path])
def test_norms_and_biases_do_not_decay(path):
    cfg = Config.fromfile(ROOT / path)
    model = build_on_meta(cfg)
    optimizer = build_optim_wrapper(model, deepcopy(cfg.optim_wrapper)).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert len(optimizer.param_groups) == len(names)
    for group in optimizer.param_groups:
        (parameter,) = group['params']
        assert group['lr'] == cfg.optim_wrapper.optimizer.lr
        decays = parameter.ndim > 1
        expected = cfg.optim_wrapper.optimizer.weight_decay * decays
        assert group['weight_decay'] == expected, names[id(parameter)]


def test_every_l2vit_config_is_held_to_a_recipe():
    names = {
        *IMAGENET,
        *(f'{detector}_l2vit-{arch}_fpn_{x}_coco' for detector, arch, x in DETECTION),
        *(f'l2vit-{arch}_upernet_8xb2-160k_ade20k-512x512' for arch in WIDTHS),
    }
    assert names == {Path(path).stem for path in CONFIGS if '/l2vit/' in path}


def test_the_readme_of_l2vit_links_every_config_and_names_no_other():
    folder = ROOT / 'configs/l2vit'
    readme = (folder / 'README.md').read_text()
    files = {path.name for path in folder.glob('*.py')}
    assert set(re.findall(r'\]\(([^:)]+\.py)\)', readme)) == files
    assert set(re.findall(r'configs/l2vit/([\w.-]+)', readme)) <= files


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_recipes(name):
    cfg, recipe = l2vit_config(name), IMAGENET[name]
    backbone, head = cfg.model.backbone, cfg.model.head
    assert backbone.arch == recipe['arch']
    assert backbone.drop_path_rate == recipe['drop_path']
    assert backbone.get('window_size', 7) == recipe['window']
    assert head.in_channels == WIDTHS[recipe['arch']][-1]
    assert head.num_classes == cfg.data_preprocessor.num_classes == recipe['classes']
    assert (head.loss.type, head.loss.label_smooth_val) == ('LabelSmoothLoss', 0.1)
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=recipe['lr'], weight_decay=recipe['weight_decay']
    )
    assert 'clip_grad' not in cfg.optim_wrapper
    assert cfg.train_cfg.max_epochs == recipe['epochs']
    assert cfg.auto_scale_lr.base_batch_size == recipe['batch']
    dataset = 'ImageNet' if recipe['classes'] == 1000 else 'ImageNet21k'
    assert cfg.train_dataloader.dataset.type == cfg.test_dataloader.dataset.type == dataset


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_augmentation(name):
    cfg, size = l2vit_config(name), IMAGENET[name]['size']
    assert cfg.model.train_cfg.augments == [
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]
    assert steps(cfg, 'RandomResizedCrop')[0].scale == size
    (augment,) = steps(cfg, 'RandAugment')
    assert augment.policies == 'timm_increasing'
    assert (augment.num_policies, augment.total_level) == (2, 10)
    assert (augment.magnitude_level, augment.magnitude_std) == (9, 0.5)
    (erasing,) = steps(cfg, 'RandomErasing')
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    if size == 224:
        assert steps(cfg, 'ResizeEdge', 'test')[0].scale == 256
        assert steps(cfg, 'CenterCrop', 'test')[0].crop_size == 224
    else:
        assert steps(cfg, 'Resize', 'test')[0].scale == size


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_learning_rate_warms_up_and_falls_along_a_cosine(name):
    cfg, recipe = l2vit_config(name), IMAGENET[name]
    lr, final_lr, length = recipe['lr'], recipe['final_lr'], 20
    rates = learning_rates(cfg, recipe['epochs'], length)
    warm = recipe['warmup'] * length
    assert rates[0] == pytest.approx(lr / 1000)
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm // 2] == pytest.approx(lr / 2, rel=0.02)
    assert rates[warm - 1] == pytest.approx(lr)
    assert rates[warm] == pytest.approx(lr)
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    assert rates[(warm + len(rates)) // 2] == pytest.approx((lr + final_lr) / 2, rel=0.01)
    assert rates[-1] == pytest.approx(final_lr, rel=0.02)


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_average_counts_optimizer_steps(name):
    cfg = l2vit_config(name)
    hooks = [hook for hook in cfg.get('custom_hooks', []) if hook.type == 'EMAHook']
    assert len(hooks) == IMAGENET[name]['ema']
    for hook in hooks:
        assert hook.momentum == pytest.approx(1e-4)
        assert hook.update_buffers
        assert hook.get('interval', 1) == cfg.optim_wrapper.get('accumulative_counts', 1)
        assert hook.get('evaluate_on_ema', True)


@pytest.mark.parametrize('name', [name for name in IMAGENET if '-pre_' in name])
def test_fine_tuning_starts_from_a_checkpoint(name):
    assert l2vit_config(name).load_from == 'checkpoints/l2vit-base_in21k_in1k-head.pth'


@pytest.mark.parametrize(('detector', 'arch', 'schedule'), DETECTION)
def test_detection_recipes(detector, arch, schedule):
    cfg = l2vit_config(f'{detector}_l2vit-{arch}_fpn_{schedule}_coco')
    masks, backbone = detector == 'mask-rcnn', cfg.model.backbone
    stages = [0, 1, 2, 3] if masks else [1, 2, 3]
    assert cfg.model.type == ('MaskRCNN' if masks else 'RetinaNet')
    assert backbone.arch == arch
    assert backbone.drop_path_rate == DETECTION_DROP_PATHS[schedule][arch]
    assert backbone.get('window_size', 7) == 7
    assert list(backbone.out_indices) == stages
    assert cfg.model.neck.in_channels == [WIDTHS[arch][stage] for stage in stages]
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    epochs, milestones = DETECTION_EPOCHS[schedule]
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.auto_scale_lr.base_batch_size == 16
    for split in ('train', 'val', 'test'):
        annotations = steps(cfg, 'LoadAnnotations', split)[0]
        assert annotations.with_bbox and annotations.get('with_mask', False) == masks
    metric = cfg.test_evaluator.metric
    assert metric == (['bbox', 'segm'] if masks else 'bbox')

    length = 200
    rates = learning_rates(cfg, epochs, length)
    assert rates[0] == pytest.approx(1e-4 / 1000)
    assert rates[999:1001] == pytest.approx([1e-4, 1e-4])
    first, second = (milestone * length for milestone in milestones)
    assert rates[first - 1 : first + 1] == pytest.approx([1e-4, 1e-5])
    assert rates[second - 1 : second + 1] == pytest.approx([1e-5, 1e-6])
    assert rates[-1] == pytest.approx(1e-6)


@pytest.mark.parametrize(('detector', 'arch', 'schedule'), DETECTION)
def test_detection_augmentation_is_detrs(detector, arch, schedule):
    cfg = l2vit_config(f'{detector}_l2vit-{arch}_fpn_{schedule}_coco')
    (choice,) = steps(cfg, 'RandomChoice')
    whole, cropped = choice.transforms
    sizes = [(1333, short) for short in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
    assert [step.type for step in whole] == ['RandomChoiceResize']
    assert [step.type for step in cropped] == [
        'RandomChoiceResize',
        'RandomCrop',
        'RandomChoiceResize',
    ]
    assert whole[0].scales == cropped[2].scales == sizes
    assert [short for _, short in cropped[0].scales] == [400, 500, 600]
    assert (cropped[1].crop_type, cropped[1].crop_size) == ('absolute_range', (384, 600))
    assert all(step.keep_ratio for step in (whole[0], cropped[0], cropped[2]))
    assert steps(cfg, 'Resize', 'test')[0].scale == (1333, 800)


@pytest.mark.parametrize('arch', WIDTHS)
def test_segmentation_recipes(arch):
    cfg = l2vit_config(f'l2vit-{arch}_upernet_8xb2-160k_ade20k-512x512')
    backbone, model = cfg.model.backbone, cfg.model
    assert backbone.arch == arch
    assert backbone.drop_path_rate == 0.3
    assert list(backbone.out_indices) == [0, 1, 2, 3]
    assert model.decode_head.type == 'UPerHead'
    assert model.decode_head.in_channels == WIDTHS[arch]
    assert model.auxiliary_head.in_channels == WIDTHS[arch][2]
    assert model.decode_head.num_classes == model.auxiliary_head.num_classes == 150
    assert model.test_cfg.mode == 'whole'
    assert model.data_preprocessor.size == steps(cfg, 'RandomCrop')[0].crop_size == (512, 512)
    assert steps(cfg, 'Resize', 'test')[0].scale == (2048, 512)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=6e-5, weight_decay=0.01)
    assert cfg.train_cfg.max_iters == 160_000
    assert cfg.auto_scale_lr.base_batch_size == 16
    warmup, poly = cfg.param_scheduler
    assert (warmup.type, warmup.by_epoch, warmup.end) == ('LinearLR', False, 1500)
    assert (poly.type, poly.by_epoch, poly.power) == ('PolyLR', False, 1.0)
    assert (poly.begin, poly.end, poly.eta_min) == (1500, 160_000, 0.0)


def test_segmentation_learning_rate_warms_up_and_falls_along_a_line():
    cfg = l2vit_config('l2vit-tiny_upernet_8xb2-160k_ade20k-512x512')
    rates = learning_rates(cfg, 1, 160_000)
    assert rates[0] < 1e-9
    assert rates[1499:1501] == pytest.approx([6e-5, 6e-5])
    assert rates[(1500 + 160_000) // 2] == pytest.approx(3e-5, rel=1e-3)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


DENSE = [path for path in CONFIGS if '/l2vit/' in path and re.search(r'_(coco|ade20k)', path)]


@pytest.mark.parametrize('path', DENSE)
def test_dense_tasks_start_from_the_classifiers_weights(path, tmp_path):
    backbone = Config.fromfile(ROOT / path).model.backbone
    arch = re.search(r'l2vit-(\w+?)_', path)[1]
    assert backbone.init_cfg.checkpoint == f'checkpoints/l2vit-{arch}_in1k.pth'
    micro = dict(embed_dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
    backbone.arch = ConfigDict(micro)
    backbone.init_cfg.checkpoint = str(tmp_path / 'classifier.pth')
    model = MODELS.build(backbone)
    with pytest.raises(CheckpointError, match=r'classifier\.pth'):
        model.init_weights()  # never from random weights in silence

    classifier = MODELS.build(dict(type='mmvitlin.L2ViT', arch=micro))
    weights = {name: torch.rand(value.shape) for name, value in classifier.state_dict().items()}
    torch.save(
        {'state_dict': {f'backbone.{name}': value for name, value in weights.items()}},
        tmp_path / 'classifier.pth',
    )
    model = MODELS.build(backbone)
    model.init_weights()
    found = model.state_dict()
    assert all(
        torch.equal(found[name], value.to(found[name].dtype)) for name, value in weights.items()
    )


class Recorder(Hook):
    """Keeps the weights after every iteration."""

    def __init__(self):
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weights.append(runner.model.head.fc.weight.detach().clone())


def test_the_average_follows_optimizer_steps_when_gradients_accumulate(tmp_path):
    ours = l2vit_config('l2vit-tiny_8xb128-accum4-300e_in1k')
    count, momentum = ours.optim_wrapper.accumulative_counts, 0.1
    cfg = tiny_config(tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg.optim_wrapper.accumulative_counts = count
    cfg.custom_hooks = [dict(ours.custom_hooks[0], momentum=momentum)]
    cfg.train_cfg.max_epochs = 4  # 12 iterations, so 3 optimizer steps
    cfg.train_dataloader.collate_fn = dict(type='default_collate')
    runner = Runner.from_cfg(cfg)
    recorder = Recorder()
    runner.register_hook(recorder, priority='LOWEST')
    runner.train()

    weights = recorder.weights
    stepped = [i for i in range(1, 12) if not torch.equal(weights[i - 1], weights[i])]
    assert stepped == [3, 7, 11]
    expected = weights[0]
    for i in stepped[:-1]:  # the hook is an iteration late: the last step is not in it yet
        expected = torch.lerp(expected, weights[i], momentum)
    checkpoint = torch.load(tmp_path / 'epoch_4.pth', weights_only=True)
    torch.testing.assert_close(checkpoint['state_dict']['head.fc.weight'], expected)
    saved = checkpoint['ema_state_dict']['module.head.fc.weight']
    assert torch.equal(saved, weights[-1])
    assert math.isfinite(expected.sum())
