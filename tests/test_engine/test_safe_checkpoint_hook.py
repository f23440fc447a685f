"""SafeCheckpointHook keeps MMEngine's behaviour and loses nothing."""

import pytest
import torch
from mmengine.runner import Runner
from tiny_run import tiny_config

from mmvitlin.checkpoints import atomic_backend
from mmvitlin.engine import SafeCheckpointHook
from mmvitlin.engine.run_settings import set_safe_checkpoints
from mmvitlin.errors import ConfigError

pytestmark = pytest.mark.slow


def saved(work_dir, pattern='*.pth'):
    return sorted(path.name for path in work_dir.glob(pattern))


def test_keeps_as_many_checkpoints_as_asked(tmp_path):
    Runner.from_cfg(tiny_config(tmp_path, default_hooks__checkpoint__max_keep_ckpts=2)).train()
    assert saved(tmp_path) == ['epoch_2.pth', 'epoch_3.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')


def test_resumed_run_goes_on_keeping_as_many(tmp_path):
    options = dict(default_hooks__checkpoint__max_keep_ckpts=2)
    Runner.from_cfg(tiny_config(tmp_path, **options)).train()
    options.update(train_cfg__max_epochs=4, resume=True, experiment_name='more')
    Runner.from_cfg(tiny_config(tmp_path, **options)).train()
    assert saved(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']


class DiskFull(OSError):
    pass


@pytest.fixture
def fail_on(monkeypatch):
    """Make the disk full when a file whose name starts so is written."""

    def install(prefix):
        put = atomic_backend.AtomicLocalBackend.put

        def failing_put(self, obj, filepath):
            if str(filepath).rsplit('/', 1)[-1].startswith(prefix):
                raise DiskFull
            put(self, obj, filepath)

        monkeypatch.setattr(atomic_backend.AtomicLocalBackend, 'put', failing_put)

    return install


def test_the_old_checkpoint_goes_only_after_the_new_one_is_there(tmp_path, fail_on):
    fail_on('epoch_2')
    with pytest.raises(DiskFull):
        Runner.from_cfg(tiny_config(tmp_path, default_hooks__checkpoint__max_keep_ckpts=1)).train()
    assert saved(tmp_path) == ['epoch_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    torch.load(tmp_path / 'epoch_1.pth', weights_only=True)


BEST = dict(
    default_hooks__checkpoint__save_best='accuracy/top1',
    default_hooks__checkpoint__rule='less',  # an untrained run need not get better
    default_hooks__checkpoint__interval=10,
)


def improve(monkeypatch):
    """Let every validation be better than the last."""
    scores = iter(range(100, 0, -1))

    def compute_metrics(self, results):
        return {'top1': float(next(scores))}

    monkeypatch.setattr('mmpretrain.evaluation.Accuracy.compute_metrics', compute_metrics)


def test_one_best_checkpoint_is_kept(tmp_path, monkeypatch):
    improve(monkeypatch)
    Runner.from_cfg(tiny_config(tmp_path, **BEST)).train()
    assert saved(tmp_path, 'best*') == ['best_accuracy_top1_epoch_3.pth']
    best = torch.load(tmp_path / 'best_accuracy_top1_epoch_3.pth', weights_only=True)
    assert 'optimizer' not in best


def test_the_old_best_goes_only_after_the_new_one_is_there(tmp_path, monkeypatch, fail_on):
    improve(monkeypatch)
    fail_on('best_accuracy_top1_epoch_2')
    with pytest.raises(DiskFull):
        Runner.from_cfg(tiny_config(tmp_path, **BEST)).train()
    assert saved(tmp_path, 'best*') == ['best_accuracy_top1_epoch_1.pth']


@pytest.mark.parametrize('resume', [False, True])
def test_a_validation_alone_saves_nothing(tmp_path, monkeypatch, resume):
    improve(monkeypatch)
    options = dict(BEST)
    if resume:
        Runner.from_cfg(tiny_config(tmp_path, **BEST)).train()
        options.update(resume=True, experiment_name='alone')
    before = saved(tmp_path)
    assert Runner.from_cfg(tiny_config(tmp_path, **options)).val().keys() == {
        'accuracy/top1',
        'raw/accuracy/top1',
    }
    assert saved(tmp_path) == before


def test_checkpoint_of_a_plain_hook_resumes_under_ours(tmp_path):
    """Runs that began with MMEngine's CheckpointHook continue with ours."""
    cfg = tiny_config(tmp_path, train_cfg__max_epochs=1)
    cfg.default_hooks.checkpoint.type = 'CheckpointHook'
    Runner.from_cfg(cfg).train()
    cfg = tiny_config(tmp_path, train_cfg__max_epochs=2, resume=True, experiment_name='ours')
    set_safe_checkpoints(cfg)
    Runner.from_cfg(cfg).train()
    assert torch.load(tmp_path / 'epoch_2.pth', weights_only=True)['meta']['epoch'] == 2


def test_our_checkpoint_resumes_under_a_plain_hook(tmp_path):
    """MMEngine's own hook resumes from our checkpoints, without the log's history."""
    Runner.from_cfg(tiny_config(tmp_path, train_cfg__max_epochs=1)).train()
    cfg = tiny_config(tmp_path, train_cfg__max_epochs=2, resume=True, experiment_name='plain')
    cfg.default_hooks.checkpoint.type = 'CheckpointHook'
    Runner.from_cfg(cfg).train()
    assert (tmp_path / 'epoch_2.pth').is_file()


def test_iteration_based_runs_save_and_resume(tmp_path):
    options = dict(default_hooks__checkpoint__by_epoch=False)

    def config(**more):
        cfg = tiny_config(tmp_path, **options, **more)
        cfg.train_cfg = dict(by_epoch=False, max_iters=4, val_interval=2)
        cfg.train_dataloader.sampler.type = 'InfiniteSampler'
        cfg.param_scheduler = None
        cfg.log_processor = dict(by_epoch=False)
        return cfg

    cfg = config()
    cfg.train_cfg.max_iters = 2
    Runner.from_cfg(cfg).train()
    Runner.from_cfg(config(resume=True, experiment_name='iters')).train()
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    assert checkpoint['meta']['iter'] == 4
    assert len(checkpoint['random_states']) == 1


def test_a_misspelt_setting_is_refused_before_the_first_save():
    with pytest.raises(ConfigError, match="no setting 'intervall'; it has interval"):
        SafeCheckpointHook(intervall=1)
