"""Records of a run match its logs, resumed and tested runs included."""

import json

import pytest

from mmvitlin.engine.run_record import read_run
from mmvitlin.errors import ConfigError

CONFIG = "default_scope = 'mmpretrain'\ntrain_cfg = dict(by_epoch=True, max_epochs=3)\n"


def write_log(work_dir, start, entries):
    folder = work_dir / start / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'config.py').write_text(CONFIG)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))
    return folder.parent


def steps(first, last, loss):
    return [dict(loss=loss, lr=0.1, iter=k, step=k, epoch=k) for k in range(first, last + 1)]


@pytest.fixture
def work_dir(tmp_path):
    log = write_log(
        tmp_path, '20260101_000000', [*steps(1, 2, 3.0), {'accuracy/top1': 40.0, 'step': 1}]
    )
    (log / '20260101_000000.log').write_text(
        'System environment:\n    Python: 3.11\n    PyTorch: 2.10\n\nRuntime environment:\n'
    )
    return tmp_path


def test_a_resumed_run_replaces_what_it_repeats(work_dir):
    write_log(work_dir, '20260102_000000', [*steps(2, 3, 1.0), {'accuracy/top1': 60.0, 'step': 2}])
    run = read_run(work_dir)
    assert [entry['loss'] for entry in run.train] == [3.0, 1.0, 1.0]
    assert run.metrics() == {'accuracy/top1': [(1, 40.0), (2, 60.0)]}
    assert run.by_epoch()


def test_a_run_begun_anew_replaces_all(work_dir):
    write_log(work_dir, '20260102_000000', [*steps(1, 3, 1.0), {'accuracy/top1': 60.0, 'step': 1}])
    run = read_run(work_dir)
    assert [entry['loss'] for entry in run.train] == [1.0] * 3
    assert run.metrics() == {'accuracy/top1': [(1, 60.0)]}


def test_a_test_in_the_same_folder_is_no_training(work_dir):
    log = write_log(work_dir, '20260103_000000', [{'accuracy/top1': 70.0, 'step': 0}])
    (log / '20260103_000000.json').write_text(json.dumps({'accuracy/top1': 70.0}))
    (log / 'vis_data/config.py').write_text(CONFIG.replace('3', '99'))
    run = read_run(work_dir)
    assert run.config.train_cfg.max_epochs == 3
    assert run.test == {'accuracy/top1': 70.0}
    assert run.metrics() == {'accuracy/top1': [(1, 40.0)]}


def test_the_environment_is_read_from_the_log(work_dir):
    assert read_run(work_dir).environment == 'Python: 3.11\nPyTorch: 2.10'


def test_the_newest_checkpoint_is_found_after_a_move(work_dir):
    assert read_run(work_dir).checkpoint is None
    (work_dir / 'last_checkpoint').write_text('/somewhere/else/epoch_3.pth')
    assert read_run(work_dir).checkpoint is None
    (work_dir / 'epoch_3.pth').write_bytes(b'')
    assert read_run(work_dir).checkpoint == work_dir / 'epoch_3.pth'


def test_a_folder_without_a_training_is_refused(work_dir, tmp_path):
    with pytest.raises(ConfigError, match='there is no work directory'):
        read_run(tmp_path / 'nowhere')
    for path in work_dir.glob('*/vis_data/config.py'):
        path.unlink()
    with pytest.raises(ConfigError, match='no log of a training'):
        read_run(work_dir)
