"""Processes end together, signals lose nothing, and full disks and damage leave a way back."""

import os
import signal
import time
import zipfile

import pytest
import torch
from reliability.trainings import Training, are_running
from same_states import assert_same

TWO = dict(processes=2, train_cfg__max_epochs=3, train_dataloader__dataset__indices=320)
WORKERS = dict(train_dataloader__num_workers=2, train_dataloader__persistent_workers=True)


def iterations(training):
    return training.said().count('Epoch(train)')


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    """The final state of two processes that nobody disturbed."""
    training = Training(tmp_path_factory.mktemp('two'), **TWO)
    assert training.run() == 0, training.said()[-3000:]
    return training.final()


def test_a_killed_launcher_takes_its_ranks_with_it(tmp_path, capsys):
    training = Training(tmp_path, **TWO, **WORKERS)
    child = training.start()
    assert training.wait_for(lambda: iterations(training) > 1, child), training.said()[-3000:]
    below = child.descendants()
    assert len(child.children()) == 2
    child.kill()
    child.wait(10)
    start = time.monotonic()
    while are_running(below) and time.monotonic() < start + 10:
        time.sleep(0.1)
    assert not are_running(below)
    with capsys.disabled():
        print(f'\nlauncher killed: {len(below)} processes over in {time.monotonic() - start:.1f} s')


def test_sigterm_to_two_processes_saves_and_resumes_to_the_same_bits(
    two_processes, tmp_path, capsys
):
    training = Training(tmp_path, **TWO)
    child = training.start()
    assert training.wait_for(lambda: iterations(training) > 3, child), training.said()[-3000:]
    child.kill(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM, training.said()[-3000:]
    saved = training.newest().name
    assert saved.startswith('epoch_')
    assert '_iter_' in saved
    assert training.run('--resume') == 0, training.said()[-3000:]
    assert_same(training.final(), two_processes)
    with capsys.disabled():
        print(f'\nSIGTERM to two processes: {saved}, resumed to the same bits')


def test_a_dead_rank_ends_the_run(tmp_path, capsys):
    training = Training(tmp_path, **TWO)
    child = training.start()
    assert training.wait_for(lambda: iterations(training) > 1, child), training.said()[-3000:]
    below = child.descendants()
    os.kill(max(child.children()), signal.SIGKILL)
    start = time.monotonic()
    assert child.wait(60) != 0
    assert not are_running(below)
    assert 'Traceback' not in training.said()
    with capsys.disabled():
        print(f'\nrank killed: all over in {time.monotonic() - start:.1f} s')


ONE = dict(
    train_cfg__max_epochs=3,
    train_dataloader__dataset__indices=320,
    default_hooks__checkpoint__max_keep_ckpts=1,
)


@pytest.fixture(scope='module', params=[{}, WORKERS], ids=['no workers', 'workers'])
def one_process(request, tmp_path_factory):
    """The options and the final state of a training that nobody disturbed."""
    training = Training(tmp_path_factory.mktemp('one'), **ONE, **request.param)
    assert training.run() == 0, training.said()[-3000:]
    return request.param, training.final()


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGUSR1'])
def test_a_signal_saves_within_the_epoch_and_resumes_to_the_same_bits(name, one_process, tmp_path):
    options, expected = one_process
    number, training = getattr(signal, name), Training(tmp_path, **ONE, **options)
    child = training.start()
    assert training.wait_for(lambda: iterations(training) > 23, child), training.said()[-3000:]
    child.kill(number)
    assert child.wait(60) == 128 + number, training.said()[-3000:]
    assert training.newest().name.startswith('epoch_1_iter_')
    assert f'{name}: saved {training.newest()}; go on by --resume' in training.said()
    assert training.run('--resume') == 0, training.said()[-3000:]
    assert_same(training.final(), expected)
    assert [path.name for path in training.work_dir.glob('*.pth')] == ['epoch_3.pth']


def test_the_damaged_newest_checkpoint_is_passed_over(one_process, tmp_path):
    options, expected = one_process
    if options:
        pytest.skip('the same with workers')
    training = Training(tmp_path, **{**ONE, 'default_hooks__checkpoint__max_keep_ckpts': -1})
    assert training.run() == 0, training.said()[-3000:]
    newest = training.newest()
    content = bytearray(newest.read_bytes())
    with zipfile.ZipFile(newest) as archive:
        record = archive.read(max(archive.infolist(), key=lambda info: info.file_size))
    content[content.index(record) + len(record) // 2] ^= 1
    newest.write_bytes(content)
    assert training.run('--resume') == 0, training.said()[-3000:]
    assert f'{newest} is damaged (the checksum of ' in training.said()
    assert 'Resuming from' in training.said()
    assert 'epoch_2.pth' in training.said()
    assert_same(training.final(), expected)


def test_a_full_disk_ends_in_one_line_and_the_last_checkpoint_is_whole(one_process, tmp_path):
    """A limit on the size of files stands for the disk: the second checkpoint does not fit."""
    options, expected = one_process
    if options:
        pytest.skip('the same with workers')
    training = Training(tmp_path, **ONE)
    child = training.start()
    assert training.wait_for(lambda: training.newest() is not None, child)
    child.kill(signal.SIGTERM)
    child.wait(60)
    before = training.newest()
    training.file_size = before.stat().st_size // 2
    earlier = len(training.said())
    assert training.run('--resume') == 1
    said = training.said()[earlier:]
    assert 'error: OSError: [Errno 27] File too large' in said, said[-2000:]
    assert 'make space and go on by --resume' in said
    assert 'Traceback' not in said, said[said.index('Traceback') :][:3000]
    torch.load(before, weights_only=True)
    assert not list(training.work_dir.glob('*.partial'))
    training.file_size = None
    assert training.run('--resume') == 0, training.said()[-3000:]
    assert_same(training.final(), expected)


def test_a_second_run_in_the_work_directory_is_refused(tmp_path):
    training = Training(tmp_path, train_cfg__max_epochs=200)
    child = training.start()
    assert training.wait_for(lambda: iterations(training) > 1, child), training.said()[-3000:]
    assert training.run('--resume') == 1
    assert f'another run is training in {training.work_dir} (process {child.pid} on ' in (
        training.said()
    )
    child.kill()
    child.wait(10)
    again = training.start('--resume')
    before = iterations(training)
    assert training.wait_for(lambda: iterations(training) > before, again)
    again.kill()
    again.wait(10)
