"""Test loop that attacks images before it classifies them."""

from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import is_model_wrapper
from mmengine.runner import TestLoop, autocast
from torch import Tensor

from mmvitlin.checks import positive_int
from mmvitlin.compat import normalizes_images
from mmvitlin.errors import ConfigError
from mmvitlin.ops.sign_attack import sign_attack
from mmvitlin.registry import LOOPS, register

LARGEST = 255.0  # value of a pixel


@register(LOOPS)
class AdversarialTestLoop(TestLoop):
    """Test loop on images that are attacked by the gradients of the tested classifier.

    The attack raises the cross-entropy of the logits (`mmvitlin.ops.sign_attack`). Epsilon and step
    size are in pixel values, 0 to 255, for any normalisation. In a config, FGSM, and PGD as the
    paper of ViT-LLaMA has it:

        test_cfg = dict(
            type='mmvitlin.AdversarialTestLoop', epsilon=1, step_size=1, steps=1)
        test_cfg = dict(
            type='mmvitlin.AdversarialTestLoop', epsilon=1, step_size=0.5, steps=5,
            random_start=True)

    Args:
        epsilon: largest change of a pixel value.
        step_size: change of a pixel value per step.
        steps: number of steps.
        random_start: begin at a random point within epsilon of the image.
        runner, dataloader, evaluator, fp16: as in MMEngine; the attack is in full precision.

    Raises:
        ConfigError: a number is not positive; or, when testing begins, the model is not a
            classifier of mmpretrain or its images have no label.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        fp16: bool = False,
        epsilon: float = 1.0,
        step_size: float = 1.0,
        steps: int = 1,
        random_start: bool = False,
    ):
        for name, value in (('epsilon', epsilon), ('step_size', step_size)):
            if not isinstance(value, Real) or isinstance(value, bool) or value <= 0:
                raise ConfigError(f'test_cfg.{name} must be a number above 0, got {value!r}')
        try:
            self.steps = positive_int('test_cfg.steps', steps)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        super().__init__(runner, dataloader, evaluator, fp16)
        self.epsilon, self.step_size, self.random_start = epsilon, step_size, random_start

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Attack a batch, predict, and give the predictions to the evaluator."""
        self.runner.call_hook('before_test_iter', batch_idx=idx, data_batch=data_batch)
        model: Any = self.runner.model
        if is_model_wrapper(model):
            model = model.module
        data = model.data_preprocessor(data_batch, False)
        samples = data.get('data_samples') or []
        if not samples or not all('gt_label' in sample for sample in samples):
            raise ConfigError(
                'AdversarialTestLoop attacks classifiers of mmpretrain, whose images have labels; '
                'leave test_cfg.type out'
            )
        attacked = self.attack(model, data['inputs'], torch.cat([s.gt_label for s in samples]))
        with torch.no_grad(), autocast(enabled=self.fp16):
            outputs = model(attacked, samples, mode='predict')
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            'after_test_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs
        )

    def attack(self, model: Any, images: Tensor, labels: Tensor) -> Tensor:
        """Attack images (B, C, H, W), normalised as the model takes them, of labels (B,)."""
        preprocessor = model.data_preprocessor
        mean, std = 0.0, 1.0
        if normalizes_images(preprocessor):
            mean, std = preprocessor.mean, preprocessor.std
        labels = labels.to(images.device)

        def loss_of(images: Tensor) -> Tensor:
            logits = model(images, mode='tensor')
            if not isinstance(logits, Tensor) or logits.ndim != 2:
                raise ConfigError(
                    f'AdversarialTestLoop attacks logits (B, classes), and the head of '
                    f'{type(model).__name__} returns something else'
                )
            return F.cross_entropy(logits, labels)

        return sign_attack(
            images,
            loss_of,
            epsilon=self.epsilon / std,
            step_size=self.step_size / std,
            steps=self.steps,
            lowest=-mean / std,
            highest=(LARGEST - mean) / std,
            random_start=self.random_start,
        )
