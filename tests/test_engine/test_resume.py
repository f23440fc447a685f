"""Training for k epochs, stopping and resuming ends with the bits of training straight through."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from same_states import assert_same
from tiny_run import tiny_config

from mmvitlin.engine.hooks import random_state_hook

pytestmark = pytest.mark.slow


class Stopped(Exception):
    pass


class StopAt(Hook):
    """Stop before epoch `epoch` (from 0), the checkpoint of the one before being written."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise Stopped


def stop_before(epoch, cfg):
    """Train until the checkpoint of the epoch before `epoch` (from 0) is written."""
    runner = Runner.from_cfg(cfg)
    runner.register_hook(StopAt(epoch), priority='LOWEST')
    with pytest.raises(Stopped):
        runner.train()


def final_checkpoint(work_dir):
    return torch.load(work_dir / 'epoch_3.pth', weights_only=True)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('undisturbed')
    Runner.from_cfg(tiny_config(work_dir)).train()
    return final_checkpoint(work_dir)


@pytest.mark.parametrize('epoch', [1, 2])
def test_resume_continues_bit_for_bit(undisturbed, tmp_path, epoch):
    stop_before(epoch, tiny_config(tmp_path))
    Runner.from_cfg(tiny_config(tmp_path, resume=True, experiment_name='resumed')).train()

    resumed = final_checkpoint(tmp_path)
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_states'):
        assert_same(resumed[key], undisturbed[key], key)


def test_without_the_random_states_resuming_gives_other_weights(undisturbed, tmp_path, monkeypatch):
    """The test above would fail if nothing were restored."""
    stop_before(1, tiny_config(tmp_path))
    monkeypatch.setattr(random_state_hook, 'restore_random_state', lambda state: None)
    Runner.from_cfg(tiny_config(tmp_path, resume=True, experiment_name='lost')).train()
    with pytest.raises(AssertionError):
        assert_same(final_checkpoint(tmp_path)['state_dict'], undisturbed['state_dict'])


def test_resume_continues_bit_for_bit_without_a_seed_in_the_config(tmp_path):
    """MMEngine then draws one, and the checkpoint knows it."""
    options = dict(randomness__seed=None, default_hooks__checkpoint__max_keep_ckpts=-1)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    Runner.from_cfg(tiny_config(straight, **options)).train()
    options.update(resume=True, load_from=str(straight / 'epoch_1.pth'))
    Runner.from_cfg(tiny_config(resumed, **options)).train()
    for key in ('state_dict', 'optimizer', 'random_states'):
        assert_same(final_checkpoint(resumed)[key], final_checkpoint(straight)[key], key)


def test_validation_leaves_no_trace_in_training(undisturbed, tmp_path):
    cfg = tiny_config(tmp_path, train_cfg__val_begin=3, train_cfg__val_interval=3)
    Runner.from_cfg(cfg).train()
    for key in ('state_dict', 'optimizer'):
        assert_same(final_checkpoint(tmp_path)[key], undisturbed[key], key)


def test_resume_keeps_the_history_of_the_log(undisturbed, tmp_path):
    stop_before(1, tiny_config(tmp_path))
    resumed = Runner.from_cfg(tiny_config(tmp_path, resume=True, experiment_name='log'))
    resumed.train()
    history, _ = resumed.message_hub.get_scalar('train/loss').data
    expected = undisturbed['message_hub']['log_scalars']['train/loss']['log'].numpy()
    assert history.tolist() == expected.tolist()


def test_other_number_of_processes_is_said(tmp_path):
    Runner.from_cfg(tiny_config(tmp_path, train_cfg__max_epochs=1)).train()
    path = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['random_states'] *= 2
    torch.save(checkpoint, path)
    runner = Runner.from_cfg(tiny_config(tmp_path, resume=True, experiment_name='two'))
    runner.train()
    log = next(tmp_path.glob(f'{runner.timestamp}/*.log')).read_text()
    assert 'random states of 2 processes, and 1 are running' in log
