"""All class counts of a config agree, or the error names every place."""

import mmdet  # noqa: F401  registers the data sets
import mmpretrain  # noqa: F401
import mmseg  # noqa: F401
import pytest
from config_reading import CONFIGS, load
from mmengine.config import Config
from tiny_run import DEMO

from mmvitlin.engine.class_counts import check_class_counts, class_counts
from mmvitlin.errors import ConfigError


@pytest.mark.parametrize('path', CONFIGS)
def test_our_own_configs_agree(path):
    cfg = load(path)
    check_class_counts(cfg)
    assert class_counts(cfg)


def test_every_place_is_named():
    cfg = Config.fromfile(DEMO)
    cfg.model.head.num_classes = 5
    with pytest.raises(ConfigError) as error:
        check_class_counts(cfg)
    message = str(error.value)
    assert 'model.head.num_classes = 5' in message
    assert 'data_preprocessor.num_classes = 10' in message
    for loader in ('train', 'val', 'test'):
        assert f'{loader}_dataloader.dataset (mmvitlin.Digits) = 10' in message


def test_names_in_a_config_count_before_those_of_the_type():
    cfg = load('configs/l2vit/retinanet_l2vit-tiny_fpn_1x_coco.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(classes=('cat', 'dog'))
    with pytest.raises(ConfigError, match=r'model.bbox_head.num_classes = 80, .* = 2'):
        check_class_counts(cfg)
    cfg.model.bbox_head.num_classes = 2
    check_class_counts(cfg)


def test_data_sets_inside_wrappers_count():
    cfg = Config.fromfile(DEMO)
    inner = dict(type='CustomDataset', metainfo=dict(classes=('cat', 'dog')))
    wrapped = dict(type='ConcatDataset', datasets=[dict(type='RepeatDataset', dataset=inner)])
    cfg.train_dataloader.dataset = wrapped
    place = 'train_dataloader.dataset.datasets.0.dataset (CustomDataset)'
    assert class_counts(cfg)[place] == 2


def test_a_data_set_that_finds_its_classes_in_folders_states_none():
    cfg = Config.fromfile(DEMO)
    cfg.train_dataloader.dataset = dict(type='CustomDataset', data_root='somewhere')
    assert not any(place.startswith('train_') for place in class_counts(cfg))


def test_a_teacher_may_know_other_classes():
    cfg = Config.fromfile(DEMO)
    cfg.model.teacher = dict(model=dict(head=dict(num_classes=1000)))
    check_class_counts(cfg)


def test_more_best_classes_than_classes_are_refused():
    cfg = Config.fromfile(DEMO)
    cfg.val_evaluator.topk = (1, 20)
    with pytest.raises(ConfigError, match='asks for the 20 best of 10'):
        check_class_counts(cfg)
