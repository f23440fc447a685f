"""WarmupCosineLR: closed form, exact on resume, with accumulation, batch schedules, any length."""

import math
from itertools import pairwise

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from tiny_run import tiny_config
from torch import nn

from mmvitlin.engine.schedulers import warmup_cosine as module
from mmvitlin.engine.schedulers.warmup_cosine import warmup_cosine
from mmvitlin.errors import ConfigError

pytestmark = pytest.mark.slow

SETTINGS = dict(
    type='mmvitlin.WarmupCosineLR',
    convert_to_iter_based=True,
    warmup=2,
    warmup_lr=1e-6,
    min_lr=1e-5,
)


def build(lrs=(1e-3,), count=1, end=6, epoch_length=4, **settings):
    groups = [dict(params=[nn.Parameter(torch.zeros(()))], lr=lr) for lr in lrs]
    wrapper = OptimWrapper(torch.optim.SGD(groups, lr=1), accumulative_counts=count)
    settings = {**SETTINGS, **settings}
    defaults = dict(optimizer=wrapper, epoch_length=epoch_length)
    return PARAM_SCHEDULERS.build(dict(settings, end=end), default_args=defaults)


def rates(scheduler, iterations):
    found = []
    for _ in range(iterations):
        found.append(scheduler.optimizer.param_groups[0]['lr'])
        scheduler.step()
    return found


class Rates(Hook):
    """Records the rate of every iteration, and may stop the training before an epoch."""

    priority = 'LOWEST'

    def __init__(self, stop_at=None):
        self.rates, self.stop_at = [], stop_at

    def before_train_epoch(self, runner):
        if runner.epoch == self.stop_at:
            raise KeyboardInterrupt

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])


def train(work_dir, stop_at=None, hooks=(), resume=False, **options):
    cfg = tiny_config(work_dir, val_dataloader=None, val_cfg=None, val_evaluator=None, **options)
    cfg.param_scheduler = SETTINGS
    cfg.custom_hooks = list(hooks)
    cfg.train_dataloader.collate_fn = dict(type='default_collate')
    cfg.train_cfg.max_epochs, cfg.resume = 4, resume
    runner, recorder = Runner.from_cfg(cfg), Rates(stop_at)
    runner.register_hook(recorder)
    if stop_at is None:
        runner.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    return recorder.rates


def test_a_cosine_under_the_warm_up_is_timms():
    found = [warmup_cosine(t, 10, 4, 1.0, 0.2, 0.1) for t in range(12)]
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[5] == pytest.approx(0.55)
    assert found[4] == pytest.approx(0.1 + 0.45 * (1 + math.cos(0.4 * math.pi)))
    assert found[10:] == [0.1, 0.1]


def test_a_cosine_after_the_warm_up_is_convnexts():
    found = [warmup_cosine(t, 10, 4, 1.0, 0.1, 0.0, after_warmup=True) for t in range(11)]
    assert found[:5] == pytest.approx([0.1, 0.4, 0.7, 1.0, 1.0])
    assert found[7] == pytest.approx(0.5)
    assert found[10] == 0


def test_each_group_has_a_schedule_of_its_own_rate():
    scheduler = build(lrs=(1e-3, 1e-4), per='epoch')
    for _ in range(3 * 4):
        scheduler.step()
    one, other = (group['lr'] for group in scheduler.optimizer.optimizer.param_groups)
    assert one == warmup_cosine(3, 6, 2, 1e-3, 1e-6, 1e-5)
    assert other == warmup_cosine(3, 6, 2, 1e-4, 1e-6, 1e-5)


def test_the_rate_of_an_epoch_can_be_that_of_the_one_before():
    prompt, lagging = build(per='epoch'), build(per='epoch', lag=1)
    prompt, lagging = rates(prompt, 24), rates(lagging, 24)
    assert lagging == [*prompt[:4], *prompt[:20]]


def test_a_cooldown_is_taken_from_the_length():
    found = rates(build(per='epoch', end=8, cooldown=2), 32)
    assert found[:24] == rates(build(per='epoch', end=6), 24)
    assert found[24:] == [1e-5] * 8


def test_the_rate_changes_with_optimizer_steps_when_gradients_accumulate():
    found = rates(build(count=2, after_warmup=True), 24)
    assert found[::2] == found[1::2]
    assert found[::2] == rates(build(epoch_length=2, after_warmup=True), 12)


def test_a_loop_by_iteration_gives_its_lengths_in_iterations():
    settings = dict(convert_to_iter_based=False, by_epoch=False, warmup=8, end=24)
    assert rates(build(**settings), 24) == rates(build(), 24)


def test_a_resumed_run_has_the_rates_that_it_would_have_had(tmp_path):
    whole = train(tmp_path / 'whole')
    assert len(whole) == 12
    assert len(set(whole)) == 12
    before = train(tmp_path / 'parts', stop_at=2)
    after = train(tmp_path / 'parts', resume=True)
    assert before + after == whole


def test_a_position_is_converted_where_epochs_have_another_length():
    saved = build(epoch_length=4)
    for _ in range(8):
        saved.step()
    resumed = build(epoch_length=8)
    resumed.load_state_dict(saved.state_dict())
    assert resumed.last_step == 16


def test_a_state_of_mmengines_schedulers_is_a_position_too():
    resumed = build()
    resumed.load_state_dict(dict(last_step=3, _global_step=9, by_epoch=False))
    assert resumed.last_step == 9
    resumed.load_state_dict(dict(last_step=2, _global_step=2, by_epoch=True))
    assert resumed.last_step == 8


def test_efficient_train_batches_leave_the_rate_to_the_images_that_were_seen(tmp_path):
    options = dict(
        optim_wrapper__accumulative_counts=2,
        train_dataloader__dataset__indices=64,
        train_dataloader__batch_size=16,
    )
    curriculum = dict(
        type='mmvitlin.EfficientTrainHook',
        input_size=(24, 32),
        magnitude_level=None,
        batch_size=(32, 16),
    )
    plain = train(tmp_path / 'plain', **options)
    changing = train(tmp_path / 'changing', hooks=[curriculum], **options)
    assert (len(plain), len(changing)) == (16, 12)
    assert changing[:4] == plain[:8:2]
    assert changing[4:] == plain[8:]


@pytest.mark.parametrize('after_warmup', [False, True])
@pytest.mark.parametrize('per', ['epoch', 'step'])
def test_a_training_shorter_than_its_warm_up_names_the_setting(per, after_warmup, monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    build(per=per, after_warmup=after_warmup, end=3)
    assert not said
    found = rates(build(per=per, after_warmup=after_warmup, end=1), 4)
    assert all(1e-6 <= rate <= 1e-3 for rate in found)
    assert all(later >= earlier for earlier, later in pairwise(found))
    assert len(said) == 1
    assert 'param_scheduler.warmup=2 and param_scheduler.cooldown=0 take all of it' in said[0]


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(warmup=-1), r'param_scheduler\.warmup must be 0 or more, got -1'),
        (dict(min_lr='low'), r"param_scheduler\.min_lr must be a number, got 'low'"),
        (dict(per='image'), r"param_scheduler\.per must be 'epoch' or 'step', got 'image'"),
        (dict(epoch_length=0), r'no batch: give a smaller train_dataloader\.batch_size'),
        (dict(end=None), r'needs end, the length of the training'),
        (dict(convert_to_iter_based=False), r'needs convert_to_iter_based=True'),
        (
            dict(convert_to_iter_based=False, by_epoch=False, per='epoch'),
            r"counts iterations .* take per='step'",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(**settings)
