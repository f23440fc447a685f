"""A training that is killed, at any moment and as often as one likes, ends with the same bits."""

import pytest
from reliability.trainings import Training, kill_and_resume
from same_states import assert_same

WORKERS = dict(
    train_dataloader__num_workers=2,
    train_dataloader__persistent_workers=True,
)
BY_ITER = """
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=90, val_interval=30)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4, max_keep_ckpts=2))
train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', by_epoch=False, end=90)
log_processor = dict(by_epoch=False)
"""
WITHIN_EPOCH = """
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5, max_keep_ckpts=2))
"""
EVERY_4 = dict(default_hooks__checkpoint__interval=4)
LONG = dict(train_cfg__max_epochs=60, default_hooks__checkpoint__max_keep_ckpts=2)
BEST = dict(default_hooks__checkpoint__save_best='accuracy/top1')

# Kills, whether in the middle of writing, and the training.
CAMPAIGNS = {
    'one process': (8, False, dict(**LONG, **BEST)),
    'large checkpoints': (
        8,
        True,
        dict(
            model__backbone__arch__embed_dims=(32, 64, 128, 256),
            model__head__in_channels=256,
            train_cfg__max_epochs=12,
            default_hooks__checkpoint__max_keep_ckpts=1,
        ),
    ),
    'persistent workers': (8, False, dict(**LONG, **WORKERS)),
    'by iteration': (
        7,
        False,
        dict(text=BY_ITER, **WORKERS, **EVERY_4),
    ),
    'within an epoch': (
        5,
        False,
        dict(
            text=WITHIN_EPOCH,
            **WORKERS,
            train_cfg__max_epochs=5,
            train_dataloader__dataset__indices=400,
            default_hooks__checkpoint__interval=5,
        ),
    ),
    'two processes': (
        4,
        False,
        dict(processes=2, train_cfg__max_epochs=40, default_hooks__checkpoint__max_keep_ckpts=2),
    ),
}


@pytest.mark.parametrize('campaign', CAMPAIGNS)
def test_killed_trainings_end_with_the_same_bits(campaign, tmp_path, capsys):
    kills, in_write, settings = CAMPAIGNS[campaign]
    straight = Training(tmp_path / 'straight', **settings)
    assert straight.run() == 0, straight.said()[-3000:]
    killed = Training(tmp_path / 'killed', **settings)
    within = kill_and_resume(killed, kills, seed=len(campaign), in_write=in_write)
    assert killed.newest().name == straight.newest().name
    assert_same(killed.final(), straight.final())
    assert not list(killed.work_dir.glob('*.partial'))
    with capsys.disabled():
        print(f'\n{campaign}: {kills} kills, {within} while writing, {kills} resumed, same bits')
