"""MixedPrecisionOptimWrapper starts on a CPU, in float32 or bfloat16."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from tiny_run import tiny_config
from torch import nn

from mmvitlin.engine.optim_wrappers import mixed_precision as module
from mmvitlin.errors import ConfigError

WEIGHT = 'head.fc.weight'


class See(Hook):
    """Records the dtype of the head's inputs in training."""

    def before_train(self, runner):
        self.seen = set()
        runner.model.head.fc.register_forward_hook(lambda *call: self.seen.add(call[2].dtype))


def train(work_dir, **settings):
    cfg = tiny_config(work_dir, val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg.train_dataloader.collate_fn = dict(type='default_collate')
    cfg.train_cfg.max_epochs = 1
    cfg.optim_wrapper.update(settings, clip_grad=dict(max_norm=1.0))
    runner, see = Runner.from_cfg(cfg), See()
    runner.register_hook(see)
    runner.train()
    return see.seen, runner


def test_float16_is_float32_on_a_cpu_which_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    mixed = dict(type='mmvitlin.MixedPrecisionOptimWrapper', dtype='float16')
    seen, runner = train(tmp_path / 'mixed', **mixed)
    _, plain = train(tmp_path / 'plain')
    assert seen == {torch.float32}
    assert len(said) == 1
    assert said[0].startswith('A CPU trains in float32 where the config says float16')
    assert torch.equal(runner.model.head.fc.weight, plain.model.head.fc.weight)


def test_bfloat16_trains_on_a_cpu(tmp_path):
    mixed = dict(type='mmvitlin.MixedPrecisionOptimWrapper', dtype='bfloat16')
    seen, runner = train(tmp_path, **mixed)
    assert seen == {torch.bfloat16}
    weight = runner.model.head.fc.weight
    assert weight.dtype == torch.float32
    assert weight.isfinite().all()


def build(**settings):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(()))], lr=1.0)
    settings = dict(settings, type='mmvitlin.MixedPrecisionOptimWrapper', optimizer=optimizer)
    return OPTIM_WRAPPERS.build(settings)


def test_states_go_between_precisions():
    plain = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.ones(()))], lr=0.5))
    for source in (plain, build(dtype='bfloat16')):
        wrapper = build(dtype='float32')
        wrapper.load_state_dict(source.state_dict())
        assert wrapper.get_lr()['lr'] == source.get_lr()['lr']


def test_gradients_accumulate_to_the_same_step():
    wrapper = build(dtype='float32', accumulative_counts=2)
    (parameter,) = wrapper.optimizer.param_groups[0]['params']
    for factor in (1.0, 3.0):
        with wrapper.optim_context(nn.Identity()):
            wrapper.update_params(parameter * factor)
    assert parameter.item() == 1 - 2


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"optim_wrapper\.dtype must be one of .* got 'int8'"):
        build(dtype='int8')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_float16_scales_the_loss_on_a_gpu(tmp_path):
    seen, runner = train(tmp_path, type='mmvitlin.MixedPrecisionOptimWrapper', dtype='float16')
    assert seen == {torch.float16}
    assert runner.optim_wrapper.loss_scaler.get_scale() > 1
