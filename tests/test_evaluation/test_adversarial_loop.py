"""Attacked digits are within epsilon of the digits, harder, and read as the loop's settings say."""

import pytest
import torch
from mmengine.runner import Runner
from tiny_run import tiny_config

from mmvitlin.errors import ConfigError

FGSM = dict(type='mmvitlin.AdversarialTestLoop', epsilon=8, step_size=8, steps=1)


@pytest.fixture
def runner(tmp_path):
    def build(**loop):
        runner = Runner.from_cfg(tiny_config(tmp_path, test_cfg=loop))
        torch.manual_seed(0)
        for parameter in runner.model.parameters():  # an untrained model is hardly attacked
            torch.nn.init.normal_(parameter, std=0.2)
        return runner

    return build


def attacked_and_clean(runner):
    """The first batch of a test, as it is and as the model sees it, in pixels; with its losses."""
    batch = next(iter(runner.test_dataloader))
    model = runner.model.eval()
    data = model.data_preprocessor(batch, False)
    labels = torch.cat([sample.gt_label for sample in data['data_samples']])
    attacked = runner.test_loop.attack(model, data['inputs'], labels)
    pixels, losses = [], []
    for images in (attacked, data['inputs']):
        pixels.append(images * model.data_preprocessor.std + model.data_preprocessor.mean)
        with torch.no_grad():
            losses.append(torch.nn.functional.cross_entropy(model(images), labels).item())
    return pixels, losses


@pytest.mark.parametrize(
    'loop', [FGSM, dict(FGSM, step_size=2, steps=5, random_start=True)], ids=['FGSM', 'PGD']
)
def test_an_attack_raises_the_loss_within_epsilon(runner, loop):
    (attacked, clean), (loss, clean_loss) = attacked_and_clean(runner(**loop))
    change = (attacked - clean).abs().max().item()
    assert 0 < change <= 8 + 1e-3
    assert attacked.min() >= -1e-3 and attacked.max() <= 255 + 1e-3
    assert loss > clean_loss


def test_a_test_evaluates_the_attacked_images_and_leaves_no_gradient(runner):
    attacked = runner(**FGSM)
    seen = []
    attacked.model.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    metrics = attacked.test()
    assert 0 <= metrics['accuracy/top1'] <= 100
    assert seen == [True, False]  # the attack's pass, and the prediction
    assert all(parameter.grad is None for parameter in attacked.model.parameters())


@pytest.mark.parametrize('wrong', [dict(epsilon=0), dict(step_size=-1), dict(steps=0)])
def test_numbers_that_make_no_attack_are_refused(runner, wrong):
    with pytest.raises(ConfigError, match=f'test_cfg.{next(iter(wrong))} must be'):
        runner(**dict(FGSM, **wrong)).test_loop  # noqa: B018  # builds it
