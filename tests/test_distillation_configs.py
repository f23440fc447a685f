"""The distillation configs are those of their students but for the teacher, which DeiT's was."""

from pathlib import Path

import pytest
import torch
from config_reading import CONFIGS, load
from mmengine.registry import DefaultScope
from tiny_run import ROOT

from mmvitlin.models.teachers.frozen_teacher import REGNETY_160, FrozenTeacher

NAMES = [Path(path).stem for path in CONFIGS if '/distill/' in path]
TEACHER = dict(model=REGNETY_160, checkpoint='checkpoints/regnety_160.pth')
BASELINES = {
    'deit-tiny_distilled_4xb256-300e_in1k': 'toe/deit-tiny_4xb256-300e_in1k',
    'deit-small_distilled_4xb256-300e_in1k': 'toe/deit-small_4xb256-300e_in1k',
    'deit-base_distilled_4xb256-300e_in1k': 'toe/deit-base_4xb256-300e_in1k',
    'lion-d-natural-base_distilled_4xb256-300e_in1k': 'lion/lion-d-natural-base_4xb256-300e_in1k',
}


def config(name):
    return load(f'configs/distill/{name}.py')


@pytest.mark.parametrize('name', NAMES)
def test_the_teacher_is_deits_and_so_is_the_loss(name):
    model = config(name).model
    assert model.type == 'mmvitlin.DistillationClassifier'
    assert (model.teacher, model.distillation, model.alpha, model.tau) == (TEACHER, 'hard', 0.5, 1)


@pytest.mark.parametrize('name', NAMES)
def test_the_teacher_tells_the_students_classes_apart_at_the_students_size(name):
    cfg = config(name)
    teacher = FrozenTeacher(**cfg.model.teacher)
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device('meta'):
        classifier = teacher.build()
    assert classifier.model.num_classes == cfg.model.head.num_classes
    assert teacher.input_size == (224, 224)


@pytest.mark.parametrize('name', NAMES)
def test_the_teacher_is_all_that_differs_from_the_baseline(name):
    distilled, plain = config(name).to_dict(), load(f'configs/{BASELINES[name]}.py').to_dict()
    for key in ('type', 'teacher', 'distillation', 'alpha', 'tau'):
        distilled['model'].pop(key)
    plain['model'].pop('type')
    if name.startswith('deit'):  # whose distillation token and second head are DeiT's
        assert distilled['model']['backbone'].pop('type') == 'mmvitlin.DistilledDeiT'
        assert distilled['model']['head'].pop('type') == 'DeiTClsHead'
        plain['model']['backbone'].pop('type')
        plain['model']['head'].pop('type')
        distilled['optim_wrapper']['paramwise_cfg']['custom_keys'].pop('.dist_token')
        # DeiT's code evaluates the raw model, that of token expansion both.
        (hook,) = distilled.pop('custom_hooks')
        assert plain.pop('custom_hooks') == [dict(hook, evaluate=['average', 'raw'])]
        assert distilled['default_hooks']['checkpoint'].pop('save_best') == 'accuracy/top1'
        plain['default_hooks']['checkpoint'].pop('save_best')
    assert distilled == plain


def test_digits_are_distilled_from_their_quickstart():
    distilled = load('configs/quickstart/lion-d-natural-micro-p8_distilled_1xb64_digits.py')
    teacher = distilled.model.teacher
    assert Path(teacher.model) == ROOT / 'configs/quickstart/l2vit-micro_1xb64_digits.py'
    epochs = load(teacher.model).train_cfg.max_epochs
    assert teacher.checkpoint == f'work_dirs/{Path(teacher.model).stem}/epoch_{epochs}.pth'
