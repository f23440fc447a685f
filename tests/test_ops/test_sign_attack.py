"""The attack is FGSM's and PGD's, and never leaves its bounds."""

import pytest
import torch

from mmvitlin.ops import sign_attack

WEIGHTS = torch.tensor([1.0, -2.0, 0.5]).reshape(3, 1, 1)


def loss_of(images):
    return (images * WEIGHTS).sum()


def draw():
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_one_step_of_epsilon_is_the_sign_of_the_gradient():
    images = draw()
    attacked = sign_attack(images, loss_of, 0.1, 0.1, 1, -9.0, 9.0)
    torch.testing.assert_close(attacked, images + 0.1 * WEIGHTS.sign())


@pytest.mark.parametrize('random_start', [False, True])
@pytest.mark.parametrize('scale', [1.0, torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1)])
def test_no_value_leaves_epsilon_or_the_range(scale, random_start):
    images, zero = draw(), 0 * scale
    attacked = sign_attack(
        images, loss_of, 0.2 * scale, 0.15 * scale, 4, zero, zero + 1, random_start
    )
    assert ((attacked - images).abs() <= 0.2 * scale + 1e-6).all()
    assert attacked.min() >= 0 and attacked.max() <= 1
    # Five steps of 0.15 reach every bound, from wherever they start.
    bound = (images + 0.2 * scale * WEIGHTS.sign()).clamp(zero, zero + 1)
    torch.testing.assert_close(attacked, bound.expand_as(attacked))


def test_a_random_start_is_random_and_no_gradient_is_left():
    images = draw()
    first, second = (sign_attack(images, loss_of, 0.2, 0.01, 1, 0.0, 1.0, True) for _ in range(2))
    assert not first.equal(second) and not first.requires_grad
    assert images.equal(draw())
