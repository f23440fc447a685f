"""FiniteLossHook ends a training whose numbers are not finite, and keeps its checkpoints."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from tiny_run import tiny_config

from mmvitlin.engine import FiniteLossHook
from mmvitlin.engine.hooks import finite_loss_hook
from mmvitlin.errors import ConfigError

pytestmark = pytest.mark.slow


class Spoil(Hook):
    """Make losses NaN, or a weight, at iterations (from 0)."""

    priority = 'VERY_HIGH'

    def __init__(self, *iterations, weight=False):
        self.iterations, self.weight = iterations, weight

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter in self.iterations:
            if self.weight:
                next(runner.model.parameters()).data.fill_(torch.nan)
            else:
                outputs['loss'] = torch.tensor(torch.nan)


def train(folder, hook, **options):
    runner = Runner.from_cfg(tiny_config(folder, **options))
    runner.register_hook(hook)
    runner.train()


def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_batch(tmp_path):
    with pytest.raises(ConfigError, match=r'iteration 5: loss is nan; the batch is sample \d+, '):
        train(tmp_path, Spoil(4))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_as_many_steps_as_the_config_says_are_let_pass(tmp_path):
    options = dict(default_hooks__finite_loss__max_steps=3)
    train(tmp_path / 'lets', Spoil(1, 2, 4, 5), **options)
    with pytest.raises(ConfigError, match=r'iteration 5: loss is nan, 3 times in a row; the batch'):
        train(tmp_path / 'ends', Spoil(2, 3, 4), **options)


def test_a_dynamic_loss_scale_is_let_find_its_place():
    class Scaler:
        def is_enabled(self):
            return True

    class WithScaler:
        optim_wrapper = type('Wrapper', (), dict(loss_scaler=Scaler()))

    class Without:
        optim_wrapper = object()

    hook, plain = FiniteLossHook(), FiniteLossHook()
    hook.before_train(WithScaler)
    plain.before_train(Without)
    assert (hook.max_steps, plain.max_steps) == (16, 1)


def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path):
    options = dict(default_hooks__checkpoint__max_keep_ckpts=1)
    message = 'after iteration 7 the weight .* is not finite: nothing was saved'
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, Spoil(5, weight=True), **options, default_hooks__finite_loss__max_steps=9)
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1.pth']
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['state_dict']
    assert all(weight.isfinite().all() for weight in saved.values())


@pytest.mark.parametrize('max_steps', [0, 1.5, 'many'])
def test_a_number_of_steps_that_is_none_is_refused(max_steps):
    with pytest.raises(ConfigError, match='max_steps must be an integer of at least 1'):
        FiniteLossHook(max_steps)


def batch(*boxes):
    samples = []
    for index, box in enumerate(boxes):
        sample = DataSample(metainfo=dict(img_path=f'{index}.jpg'))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([box], dtype=torch.float32))
        samples.append(sample)
    return dict(data_samples=samples)


def test_boxes_without_area_are_named_once(monkeypatch):
    said = []
    monkeypatch.setattr(finite_loss_hook, 'print_log', lambda text, *_: said.append(text))
    hook = FiniteLossHook(max_steps=1)
    runner = type('Runner', (), dict(iter=0))
    for _ in range(2):
        hook.before_train_iter(runner, 0, batch((0, 0, 4, 4), (2, 1, 2, 5)))
    assert len(said) == 1
    assert 'boxes without area, in 1.jpg: they can make the loss NaN' in said[0]
    with pytest.raises(ConfigError, match=r'0\.jpg, 1\.jpg; boxes without area are in 1\.jpg'):
        hook.after_train_iter(
            runner, 0, batch((0, 0, 4, 4), (2, 1, 2, 5)), dict(loss=torch.tensor(torch.inf))
        )
