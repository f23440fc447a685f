"""A signal saves a checkpoint, and the training goes on from there with the same bits."""

import multiprocessing
import os
import signal

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from same_states import assert_same
from tiny_run import tiny_config

from mmvitlin.engine.run_settings import set_exact_resume, set_safe_checkpoints

pytestmark = pytest.mark.slow

COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_states')
MIXUP = dict(model__train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]))


class SignalAt(Hook):
    """Send this process a signal in iteration `iteration`, from 0."""

    def __init__(self, iteration, number=signal.SIGTERM):
        self.iteration, self.number = iteration, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def config(work_dir, by_epoch=True, workers=0, **options):
    cfg = tiny_config(work_dir, train_cfg__max_epochs=2, **MIXUP, **options)
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
    cfg.train_dataloader.dataset.indices = 96
    if not by_epoch:
        cfg.train_cfg = dict(by_epoch=False, max_iters=9, val_interval=5)
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=9)
        cfg.train_dataloader.sampler.type = 'InfiniteSampler'
        cfg.param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, end=9)
        cfg.log_processor = dict(by_epoch=False)
    set_safe_checkpoints(cfg)
    set_exact_resume(cfg)
    return cfg


def train(cfg, *hooks):
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()


def exit_code(cfg, *hooks):
    """Train in a separate process, whose workers end with it."""
    process = multiprocessing.get_context('fork').Process(target=train, args=(cfg, *hooks))
    process.start()
    process.join(60)
    return process.exitcode


def load(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    ('by_epoch', 'interrupted', 'last'),
    [(True, 'epoch_1_iter_2.pth', 'epoch_2.pth'), (False, 'iter_8.pth', 'iter_9.pth')],
    ids=['by epoch', 'by iteration'],
)
def test_a_signal_within_an_epoch_costs_nothing(by_epoch, interrupted, last, workers, tmp_path):
    straight, stopped = tmp_path / 'straight', tmp_path / 'stopped'
    train(config(straight, by_epoch))  # without workers: their number makes no difference
    assert exit_code(config(stopped, by_epoch, workers), SignalAt(7)) == 128 + signal.SIGTERM
    assert load(stopped / interrupted)['meta']['iter'] == 8
    assert exit_code(config(stopped, by_epoch, workers, resume=True, experiment_name='new')) == 0
    assert_same(*({key: load(f / last)[key] for key in COMPARED} for f in (stopped, straight)))


def test_a_signal_waits_for_the_step_of_accumulated_gradients(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        train(config(tmp_path, optim_wrapper__accumulative_counts=3), SignalAt(3))
    assert signal.getsignal(signal.SIGTERM) == before
    assert (tmp_path / 'epoch_0_iter_6.pth').is_file()


def test_a_checkpoint_within_an_epoch_counts_among_those_kept(tmp_path):
    options = dict(default_hooks__checkpoint__max_keep_ckpts=1)
    with pytest.raises(SystemExit):
        train(config(tmp_path, **options), SignalAt(7, signal.SIGUSR1))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_1_iter_2.pth']
    train(config(tmp_path, **options, resume=True, experiment_name='kept'))
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_2.pth']


def test_without_a_loop_that_can_go_on_signals_stay_as_they_are(tmp_path):
    """MMEngine's own loop by epoch would begin the epoch again."""
    handlers = []

    class Look(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            handlers.append(signal.getsignal(signal.SIGTERM))

    cfg = config(tmp_path)
    cfg.train_cfg.type = 'EpochBasedTrainLoop'
    train(cfg, Look())
    assert set(handlers) == {signal.SIG_DFL}
