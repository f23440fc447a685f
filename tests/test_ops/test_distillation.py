"""Distillation losses: the original's numbers, and the effect of each setting."""

import math

import pytest
import torch
import torch.nn.functional as F
from goldens import load_meta, load_outputs, relative_error, standard_normal

from mmvitlin.ops.distillation import (
    distillation_loss,
    hard_distillation_loss,
    soft_distillation_loss,
)

SEED = load_meta('distillation_loss')['seed']
OUTPUTS = load_outputs('distillation_loss')
CLASSES, DISTILLED = (standard_normal((6, 10), SEED + offset) for offset in (2, 3))
TEACHER = 3 * standard_normal((6, 10), SEED + 4)
BASE = F.cross_entropy(CLASSES, torch.arange(6))


@pytest.mark.parametrize('case', OUTPUTS)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-7), (torch.float32, 1e-6)])
def test_the_loss_is_the_originals(case, dtype, tolerance):
    kind, alpha, tau = case.split('_')
    logits = DISTILLED.to(dtype), TEACHER.to(dtype)
    parts = distillation_loss(BASE.to(dtype), *logits, kind, float(alpha), float(tau))
    assert relative_error(sum(parts), OUTPUTS[case]) < tolerance


@pytest.mark.parametrize('kind', ['soft', 'hard'])
@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_the_parts_are_weighted_by_alpha(kind, alpha):
    base, _ = distillation_loss(BASE, DISTILLED, TEACHER, kind, 0.0, 2.0)
    _, distilled = distillation_loss(BASE, DISTILLED, TEACHER, kind, 1.0, 2.0)
    parts = distillation_loss(BASE, DISTILLED, TEACHER, kind, alpha, 2.0)
    torch.testing.assert_close(parts, ((1 - alpha) * base, alpha * distilled))


def test_without_distillation_no_teacher_is_needed():
    assert distillation_loss(BASE, DISTILLED, None, 'none') == (BASE, 0)


def test_a_student_that_agrees_has_no_soft_loss_and_no_gradient():
    student = TEACHER.clone().requires_grad_()
    loss = soft_distillation_loss(student, TEACHER, tau=3.0)
    loss.backward()
    assert abs(loss.item()) < 1e-12
    assert student.grad.abs().max() < 1e-12


def test_the_first_choice_of_the_teacher_is_the_hard_label():
    expected = F.cross_entropy(DISTILLED, TEACHER.argmax(1))
    assert torch.equal(hard_distillation_loss(DISTILLED, TEACHER), expected)
    assert torch.equal(hard_distillation_loss(DISTILLED, 9 * TEACHER), expected)


@pytest.mark.parametrize('kind', ['soft', 'hard'])
def test_gradients_go_to_the_student_and_none_to_the_teacher(kind):
    student, teacher = (logits.clone().requires_grad_() for logits in (DISTILLED, TEACHER))
    base = BASE.clone().requires_grad_()
    sum(distillation_loss(base, student, teacher, kind)).backward()
    assert student.grad.abs().max() > 0
    assert base.grad == 0.5
    assert teacher.grad is None


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(kind='medium'), "one of none, soft, hard, got 'medium'"),
        (dict(alpha=1.5), 'from 0 to 1, got 1.5'),
        (dict(alpha=math.nan), 'from 0 to 1, got nan'),
        (dict(tau=0.0), 'above 0, got 0.0'),
        (dict(tau=math.inf), 'above 0, got inf'),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(BASE, DISTILLED, TEACHER, **settings)


@pytest.mark.parametrize('teacher', [TEACHER[:, :9], TEACHER[:5], TEACHER[:, :1]])
def test_logits_of_other_classes_are_refused(teacher):
    with pytest.raises(ValueError, match=r'\(6, 10\) from the student and .* from the teacher'):
        distillation_loss(BASE, DISTILLED, teacher)
