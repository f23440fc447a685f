"""Attacks on images by the signs of gradients: FGSM and PGD."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def sign_attack(
    images: Tensor,
    loss_of: Callable[[Tensor], Tensor],
    epsilon: Tensor | float,
    step_size: Tensor | float,
    steps: int,
    lowest: Any,
    highest: Any,
    random_start: bool = False,
) -> Tensor:
    """Change images by at most epsilon so that a loss grows.

    Each step moves every value by the step size in the direction in which the loss grows. One step
    of epsilon is FGSM (arXiv 1412.6572), several smaller ones are PGD (arXiv 1706.06083).

    Args:
        images: (B, C, H, W).
        loss_of: computes the loss, a scalar, of a batch of images.
        epsilon: largest change of a value, broadcast over the images, as are all that follow.
        step_size: change of a value in a step.
        steps: number of steps.
        lowest, highest: range of the values of an image; both tensors, or both numbers.
        random_start: begin at a random point, uniform within epsilon of the images.

    Returns:
        The changed images, of the same shape.
    """
    attacked = images
    if random_start:
        attacked = images + epsilon * (2 * torch.rand_like(images) - 1)
    attacked = attacked.clamp(lowest, highest)
    for _ in range(steps):
        attacked = attacked.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss_of(attacked), attacked)
        attacked = attacked.detach() + step_size * gradient.sign()
        attacked = attacked.clamp(images - epsilon, images + epsilon).clamp(lowest, highest)
    return attacked
