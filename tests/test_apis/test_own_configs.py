"""Configs for own data inherit from ours, state the class count once, and can be read."""

from pathlib import Path

import mmdet  # noqa: F401  registers the data sets
import mmpretrain  # noqa: F401
import mmseg  # noqa: F401
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from tiny_run import DEMO, ROOT

from mmvitlin.apis.new_config import compose_config, render
from mmvitlin.datasets.own_data import DataSummary
from mmvitlin.engine.checks import check_training
from mmvitlin.engine.class_counts import EVALUATORS, find_numbers
from mmvitlin.engine.run_plan import average_hook, plan_run
from mmvitlin.errors import ConfigError


def summary(scope, tmp_path, classes=3, with_mask=True):
    """Return a summary of data with a number of classes and no files."""
    details = {
        'mmpretrain': {},
        'mmdet': dict(with_mask=with_mask),
        'mmseg': dict(
            img_suffix='.jpg',
            seg_map_suffix='.png',
            masks=tmp_path / 'masks',
            pixels=(90_000, 40_000, *[0] * (classes - 2)),
        ),
    }
    ending = 'json' if scope == 'mmdet' else 'txt'
    return DataSummary(
        root=tmp_path,
        classes=tuple(f'class {label}' for label in range(classes)),
        train=80,
        val=20,
        counts=dict(train={}, val={}),
        example=tmp_path / 'image.jpg',
        sizes=((200, 100), (80, 60)),
        files={split: Path(f'own_{split}.{ending}') for split in ('train', 'val')},
        new_files={},
        details=details[scope],
    )


def compose(base, tmp_path, **options):
    """Write the config for data of 3 classes; return text and config."""
    base_path = ROOT / 'configs' / base
    cfg = Config.fromfile(base_path)
    classes, length = options.pop('classes', 3), options.pop('length', None)
    data = summary(cfg.default_scope, tmp_path, classes, options.pop('with_mask', True))
    plan = plan_run(cfg, data.train, 1, 'checkpoint' in options, length)
    path = tmp_path / 'own.py'
    text = compose_config(path, base_path, data, plan, **options)
    path.write_text(text)
    return text, Config.fromfile(path)


BASES = [
    'quickstart/l2vit-micro_1xb64_digits.py',
    'quickstart/lion-d-natural-micro_1xb64_digits.py',
    'quickstart/vit-llama-micro_1xb64_digits.py',
    'quickstart/vit-micro_toe_1xb64_digits.py',
    'quickstart/retinanet_l2vit-micro_fpn_digit-scenes.py',
    'quickstart/mask-rcnn_lion-d-natural-micro_sfp_digit-scenes.py',
    'quickstart/lion-d-natural-micro_upernet_digit-scenes.py',
    'l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py',
    'l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k.py',
    'efficient_train/deit-tiny_efftrain_toe_8xb256-accum2-300e_in1k.py',
    'l2vit/mask-rcnn_l2vit-tiny_fpn_1x_coco.py',
    'l2vit/l2vit-tiny_upernet_8xb2-160k_ade20k-512x512.py',
]


@pytest.mark.parametrize('base', BASES)
def test_every_kind_of_base_gives_a_config_of_the_datas_classes(base, tmp_path):
    text, cfg = compose(base, tmp_path)
    places = ('data_preprocessor', 'model', *EVALUATORS)
    assert set(dict(find_numbers(cfg, places, 'num_classes')).values()) == {3}
    assert cfg.num_classes == 3
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == ('class 0', 'class 1', 'class 2')
        assert dataset.pipeline[0].type == 'LoadImageFromFile'
        ending = 'train' if split == 'train' else 'val'
        assert Path(dataset.ann_file).stem == f'own_{ending}'
        assert Path(dataset.ann_file).parent == tmp_path
    assert 'Pretrained' not in text  # no weights are to be read that nobody named
    assert not cfg.get('load_from')
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        MODELS.build(cfg.model)
    assert max(map(len, text.splitlines()[1:])) <= 100 + len(str(tmp_path))


def test_the_class_count_stands_in_one_place(tmp_path):
    text, cfg = compose('quickstart/l2vit-micro_1xb64_digits.py', tmp_path)
    (tmp_path / 'own.py').write_text(
        text.replace("'class 0', 'class 1', 'class 2'", "'cat', 'dog'")
    )
    cfg = Config.fromfile(tmp_path / 'own.py')
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 2


@pytest.mark.parametrize('classes, topk', [(3, (1,)), (6, (1, 5))])
def test_the_five_best_are_asked_of_more_than_five_classes(classes, topk, tmp_path):
    _, cfg = compose('quickstart/l2vit-micro_1xb64_digits.py', tmp_path, classes=classes)
    assert tuple(cfg.val_evaluator.topk) == topk


def test_a_recipe_that_reads_files_keeps_its_augmentation(tmp_path):
    full = 'l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py'
    base = Config.fromfile(ROOT / 'configs' / full)
    _, cfg = compose(full, tmp_path)
    assert cfg.train_dataloader.dataset.pipeline == base.train_dataloader.dataset.pipeline
    _, cfg = compose(full, tmp_path, size=160)
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 160


def test_size_and_flip_are_live(tmp_path):
    base = 'quickstart/lion-d-natural-micro_1xb64_digits.py'
    _, cfg = compose(base, tmp_path)
    assert cfg.model.backbone.img_size == 96  # of images of 60 and 100 pixels, rounded up
    assert any(step.type == 'RandomFlip' for step in cfg.train_pipeline)
    _, cfg = compose(base, tmp_path, size=48, flip=False)
    assert cfg.model.backbone.img_size == cfg.train_pipeline[1].scale == 48
    assert not any(step.type == 'RandomFlip' for step in cfg.train_pipeline)


def test_the_average_fits_the_run_and_curricula_stay(tmp_path):
    _, cfg = compose('quickstart/vit-micro_toe_1xb64_digits.py', tmp_path)
    average, expansion = cfg.custom_hooks
    assert average == average_hook()
    assert expansion.expansion_step == (0, 0.3333, 0.6667)
    assert cfg.default_hooks.checkpoint.save_best == 'accuracy/top1'
    assert (
        'save_best'
        not in compose('l2vit/mask-rcnn_l2vit-tiny_fpn_1x_coco.py', tmp_path)[
            1
        ].default_hooks.checkpoint
    )


@pytest.mark.parametrize('base', BASES)
def test_every_config_can_be_trained_and_each_of_its_batches_is_a_step(base, tmp_path):
    _, cfg = compose(base, tmp_path)
    cfg.work_dir = str(tmp_path)
    check_training(cfg, has_accelerator=False)
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == 1
    assert cfg.train_dataloader.sampler.type != 'mmvitlin.WholeStepSampler'
    assert not any(hook.get('batch_size') for hook in cfg.get('custom_hooks') or [])


def test_length_and_warm_up_stand_once(tmp_path):
    text, _ = compose('quickstart/l2vit-micro_1xb64_digits.py', tmp_path)
    changed = text.replace('\nmax_epochs = ', '\nmax_epochs = 7 * ')
    (tmp_path / 'own.py').write_text(changed)
    cfg = Config.fromfile(tmp_path / 'own.py')
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end == cfg.max_epochs
    _, cfg = compose('quickstart/l2vit-micro_1xb64_digits.py', tmp_path, length=1)
    assert [scheduler.type for scheduler in cfg.param_scheduler] == ['CosineAnnealingLR']


@pytest.fixture
def classifier(tmp_path):
    """Save the checkpoint of a classifier."""
    cfg = Config.fromfile(DEMO)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'classifier.pth')
    return str(tmp_path / 'classifier.pth')


def test_a_classifiers_checkpoint_starts_the_backbone(classifier, tmp_path):
    for base in (
        'quickstart/l2vit-micro_1xb64_digits.py',
        'l2vit/mask-rcnn_l2vit-tiny_fpn_1x_coco.py',
    ):
        _, cfg = compose(base, tmp_path, checkpoint=classifier)
        expected = dict(type='Pretrained', checkpoint=classifier, prefix='backbone.')
        assert cfg.model.backbone.init_cfg == expected


def test_a_detectors_checkpoint_starts_the_whole_detector(tmp_path):
    weights = {'backbone.a': torch.zeros(1), 'rpn_head.b': torch.zeros(1)}
    torch.save(dict(state_dict=weights), tmp_path / 'detector.pth')
    path = str(tmp_path / 'detector.pth')
    _, cfg = compose('l2vit/mask-rcnn_l2vit-tiny_fpn_1x_coco.py', tmp_path, checkpoint=path)
    assert cfg.load_from == path
    assert cfg.model.backbone.init_cfg is None


def test_an_original_checkpoint_is_to_be_converted(tmp_path):
    torch.save({'blocks.0.weight': torch.zeros(1)}, tmp_path / 'original.pth')
    with pytest.raises(ConfigError, match='convert_checkpoint'):
        compose(
            'quickstart/l2vit-micro_1xb64_digits.py',
            tmp_path,
            checkpoint=str(tmp_path / 'original.pth'),
        )


@pytest.mark.parametrize(
    'base, message, options',
    [
        ('quickstart/lion-d-natural-micro-p8_distilled_1xb64_digits.py', 'teacher', {}),
        ('quickstart/lvvit-micro_1xb64_digits.py', 'label maps', {}),
        ('l2vit/l2vit-base_8xb128-90e_in21k.py', 'does not validate', {}),
        (
            'quickstart/mask-rcnn_l2vit-micro_fpn_digit-scenes.py',
            'RetinaNet',
            dict(with_mask=False),
        ),
    ],
)
def test_what_cannot_be_trained_on_own_data_is_refused(base, message, options, tmp_path):
    with pytest.raises(ConfigError, match=message):
        compose(base, tmp_path, **options)


def test_each_class_has_a_color_and_a_weight_by_its_pixels(tmp_path):
    _, cfg = compose('quickstart/lion-d-natural-micro_upernet_digit-scenes.py', tmp_path)
    weights = [1.0, 1.5, 10.0]
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        assert head.loss_decode.class_weight == weights
    palette = cfg.train_dataloader.dataset.metainfo.palette
    assert len(set(map(tuple, palette))) == 3
    assert palette == cfg.val_dataloader.dataset.metainfo.palette


def test_rendered_values_read_back():
    value = dict(a=[1, 'x', (2,)], b=dict(c=None, d=[dict(e='y' * 40) for _ in range(4)]))
    value['f'] = [('a name', label, label) for label in range(20)]
    text = render(value)
    assert eval(text) == value
    assert max(map(len, text.splitlines())) <= 100
    assert len(text.splitlines()) < 20  # short items share lines
