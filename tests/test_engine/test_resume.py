"""Training for k epochs, stopping and resuming ends with the bits of training straight through."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tiny_run import tiny_config


class Stopped(Exception):
    pass


class StopAt(Hook):
    """Stop before epoch `epoch` (from 0), the checkpoint of the one before being written."""

    def __init__(self, epoch):
        self.epoch = epoch

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            raise Stopped


def final_checkpoint(work_dir):
    return torch.load(work_dir / 'epoch_3.pth', weights_only=True)


def assert_same(one, other, path=''):
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f'{path}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for index, (left, right) in enumerate(zip(one, other)):
            assert_same(left, right, f'{path}[{index}]')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('undisturbed')
    Runner.from_cfg(tiny_config(work_dir)).train()
    return final_checkpoint(work_dir)


@pytest.mark.parametrize('epoch', [1, 2])
def test_resume_continues_bit_for_bit(undisturbed, tmp_path, epoch):
    runner = Runner.from_cfg(tiny_config(tmp_path))
    runner.register_hook(StopAt(epoch), priority='LOWEST')
    with pytest.raises(Stopped):
        runner.train()

    Runner.from_cfg(tiny_config(tmp_path, resume=True, experiment_name='resumed')).train()

    resumed = final_checkpoint(tmp_path)
    for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_states'):
        assert_same(resumed[key], undisturbed[key], key)


def test_the_run_draws_random_numbers_of_every_kind(undisturbed, tmp_path):
    """Without the restored states the test above would fail: another seed gives other weights."""
    Runner.from_cfg(tiny_config(tmp_path, randomness__seed=1)).train()
    other = final_checkpoint(tmp_path)
    for kind in ('python', 'numpy', 'torch'):
        states = [run['random_states'][0][kind] for run in (undisturbed, other)]
        with pytest.raises(AssertionError):
            assert_same(*states)


def test_validation_leaves_no_trace_in_training(undisturbed, tmp_path):
    cfg = tiny_config(tmp_path, train_cfg__val_begin=3, train_cfg__val_interval=3)
    Runner.from_cfg(cfg).train()
    for key in ('state_dict', 'optimizer'):
        assert_same(final_checkpoint(tmp_path)[key], undisturbed[key], key)


def test_resume_keeps_the_history_of_the_log(undisturbed, tmp_path):
    runner = Runner.from_cfg(tiny_config(tmp_path))
    runner.register_hook(StopAt(1), priority='LOWEST')
    with pytest.raises(Stopped):
        runner.train()
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
