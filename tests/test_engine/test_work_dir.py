"""The work directory: the newest whole checkpoint is found, one run at a time writes."""

import time

import pytest
import torch
from fresh_python import start_python
from mmengine.config import Config

from mmvitlin.engine import work_dir
from mmvitlin.engine.work_dir import (
    checkpoint_folder,
    find_damage,
    find_newest,
    hold,
    prepare_work_dir,
)
from mmvitlin.errors import ConfigError


@pytest.fixture
def said(monkeypatch):
    """Return the log messages."""
    lines = []
    monkeypatch.setattr(work_dir, 'print_log', lambda text, *_: lines.append(text))
    return lines


def config(folder, **options):
    return Config(dict(work_dir=str(folder), default_hooks=dict(checkpoint=dict()), **options))


def save(folder, *names):
    for name in names:
        torch.save({'weight': torch.arange(100.0)}, folder / name)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ('names', 'newest'),
    [
        (['epoch_9.pth', 'epoch_10.pth'], 'epoch_10.pth'),
        (['epoch_3.pth', 'epoch_3_iter_7.pth', 'epoch_2_iter_9.pth'], 'epoch_3_iter_7.pth'),
        (['epoch_3_iter_10.pth', 'epoch_3_iter_9.pth'], 'epoch_3_iter_10.pth'),
        (['iter_900.pth', 'epoch_2.pth'], 'epoch_2.pth'),
        (['iter_900.pth', 'iter_1000.pth'], 'iter_1000.pth'),
        (['best_accuracy_epoch_4.pth', 'epoch_1.pth', 'epoch_x.pth'], 'epoch_1.pth'),
    ],
)
def test_without_a_pointer_the_newest_is_found_by_number(names, newest, tmp_path):
    save(tmp_path, *names)
    assert find_newest(config(tmp_path)) == str(tmp_path / newest)


def test_a_config_by_iteration_prefers_its_own_checkpoints(tmp_path):
    save(tmp_path, 'iter_900.pth', 'epoch_2.pth')
    cfg = config(tmp_path)
    cfg.default_hooks.checkpoint.by_epoch = False
    assert find_newest(cfg) == str(tmp_path / 'iter_900.pth')


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert find_newest(config(tmp_path)) is None
    assert find_newest(config(tmp_path / 'none')) is None


def test_the_pointer_wins_and_names_a_file_beside_it(tmp_path):
    """A work directory that was moved, or copied, or mounted elsewhere, resumes."""
    save(tmp_path, 'epoch_3.pth', 'epoch_4.pth')
    (tmp_path / 'last_checkpoint').write_text('/another/place/epoch_3.pth')
    assert find_newest(config(tmp_path)) == str(tmp_path / 'epoch_3.pth')


def test_the_pointer_may_name_another_folder(tmp_path):
    (tmp_path / 'out').mkdir()
    save(tmp_path / 'out', 'model_7.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'out/model_7.pth'))
    assert find_newest(config(tmp_path)) == str(tmp_path / 'out/model_7.pth')


def test_checkpoints_are_found_in_out_dir(tmp_path):
    work_dir = tmp_path / 'run'
    cfg = config(work_dir)
    cfg.default_hooks.checkpoint.out_dir = str(tmp_path / 'out')
    (tmp_path / 'out/run').mkdir(parents=True)
    save(tmp_path / 'out/run', 'epoch_1.pth')
    assert checkpoint_folder(cfg) == tmp_path / 'out/run'
    assert find_newest(cfg) == str(tmp_path / 'out/run/epoch_1.pth')


@pytest.mark.parametrize('pointer', ['', 'epoch_9.pth', b'\xff\x00\x80', 'folder'])
def test_a_pointer_to_nothing_is_named_and_passed_over(pointer, tmp_path, said):
    save(tmp_path, 'epoch_1.pth')
    path = tmp_path / 'last_checkpoint'
    if pointer == 'folder':
        path.mkdir()
    else:
        path.write_bytes(pointer if isinstance(pointer, bytes) else pointer.encode())
    assert find_newest(config(tmp_path)) == str(tmp_path / 'epoch_1.pth')
    assert said[0].startswith(f'{path} is skipped (')


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path, said):
    save(tmp_path, 'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth')
    flip_a_bit(tmp_path / 'epoch_2.pth')
    (tmp_path / 'epoch_3.pth').write_bytes((tmp_path / 'epoch_1.pth').read_bytes()[:200])
    (tmp_path / 'epoch_4.pth').touch()
    assert find_newest(config(tmp_path)) == str(tmp_path / 'epoch_1.pth')
    assert [line.partition('epoch_')[2][:30] for line in said] == [
        '4.pth is damaged (it is empty)',
        '3.pth is damaged (it is cut of',
        '2.pth is damaged (the checksum',
    ]
    for name in ('epoch_1.pth', 'last_checkpoint'):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ConfigError, match=r'no checkpoint in .* is whole: epoch_4\.pth'):
        find_newest(config(tmp_path))


def test_a_pickle_without_checksums_counts_as_whole(tmp_path):
    torch.save({}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert find_damage(tmp_path / 'old.pth') is None


def test_a_new_training_leaves_the_checkpoints_of_another_alone(tmp_path):
    save(tmp_path, 'epoch_1.pth', 'best_accuracy_epoch_1.pth')
    with pytest.raises(ConfigError, match='go on with it by --resume, remove them by --overwrite'):
        prepare_work_dir(config(tmp_path), overwrite=False, writes=True)
    prepare_work_dir(config(tmp_path, resume=True), overwrite=False, writes=True)
    prepare_work_dir(config(tmp_path, resume=True), overwrite=True, writes=True)
    prepare_work_dir(config(tmp_path), overwrite=True, writes=False)
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'best_accuracy_epoch_1.pth',
        'epoch_1.pth',
    ]


def test_overwrite_removes_all_but_what_the_new_training_starts_from(tmp_path):
    save(tmp_path, 'epoch_1.pth', 'epoch_2.pth', 'best_accuracy_epoch_1.pth', 'other.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    cfg = config(tmp_path, load_from=str(tmp_path / 'epoch_2.pth'))
    prepare_work_dir(cfg, overwrite=True, writes=True)
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != '.lock')
    assert left == ['epoch_2.pth', 'other.pth']


def test_partial_files_of_killed_runs_are_removed(tmp_path):
    for name in ('epoch_2.pth.elsewhere.17.partial', 'last_checkpoint.here.3.partial', 'a.partial'):
        (tmp_path / name).touch()
    prepare_work_dir(config(tmp_path), overwrite=False, writes=True)
    assert [path.name for path in tmp_path.glob('*.partial')] == ['a.partial']


LOCKING = """
import time
from pathlib import Path
from mmvitlin.engine.work_dir import check_writable, hold
check_writable(Path({folder!r}))
hold(Path({folder!r}))
time.sleep(300)
"""


@pytest.mark.slow
def test_a_second_run_is_refused_until_the_first_has_ended_even_by_a_kill(tmp_path):
    run = start_python(LOCKING.format(folder=str(tmp_path)))
    while not (tmp_path / '.lock').exists() or not (tmp_path / '.lock').read_text():
        assert run.process.is_alive()
        time.sleep(0.01)
    with pytest.raises(ConfigError, match=rf'another run .* \(process {run.process.pid} '):
        hold(tmp_path)
    run.kill()
    hold(tmp_path)
