"""Settings that make any config's training safe to stop: hooks, loop, seeded samples."""

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log

from mmvitlin.checkpoints.safe_load import register_safe_loaders

# What default_hooks gets where the config does not say otherwise; None leaves a hook out.
HOOKS = {
    'random_state': 'mmvitlin.RandomStateHook',
    'finite_loss': 'mmvitlin.FiniteLossHook',
    'interrupt': 'mmvitlin.InterruptHook',
    'progress': 'mmvitlin.ProgressHook',
}
LOOPS = {
    'EpochBasedTrainLoop': 'mmvitlin.ResumableEpochLoop',
    'IterBasedTrainLoop': 'mmvitlin.ResumableIterLoop',
}


def set_safe_checkpoints(cfg: Config) -> None:
    """Load no pickle that could run code; save checkpoints that need none and resume exactly.

    A config of one of the hosts gets our SafeCheckpointHook, with its own settings, in the place of
    MMEngine's CheckpointHook, and the hooks above.
    """
    register_safe_loaders()
    cfg.default_hooks = cfg.get('default_hooks') or {}
    hook = cfg.default_hooks.setdefault('checkpoint', dict(type=CheckpointHook, interval=1))
    if hook and hook['type'] in (CheckpointHook, 'CheckpointHook', 'mmengine.CheckpointHook'):
        hook['type'] = 'mmvitlin.SafeCheckpointHook'
        print_log('Checkpoints are saved by mmvitlin.SafeCheckpointHook', 'current')
    for name, kind in HOOKS.items():
        cfg.default_hooks.setdefault(name, dict(type=kind))


def set_exact_resume(cfg: Config) -> None:
    """Make training resume to the same bits, within an epoch and with loader workers too.

    MMEngine's two loops become ours, and samples are seeded by their place in the training. Loops
    and loaders of another kind stay as they are.
    """
    loop = cfg.train_cfg
    by_epoch = loop.get('by_epoch')
    kind = loop.get('type')
    if by_epoch is not None and kind is None:
        kind = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    if kind not in LOOPS:
        return
    loop.pop('by_epoch', None)
    loop['type'] = LOOPS[kind]
    loader = cfg.train_dataloader
    dataset, sampler = loader.get('dataset'), loader.get('sampler')
    if isinstance(dataset, dict) and isinstance(sampler, dict):
        if dataset.get('type') == 'mmvitlin.SeededDataset':
            return
        # ConfigDict merges what is assigned over an old value with its keys, so build new ones.
        loader['dataset'] = dict(type='mmvitlin.SeededDataset', dataset=dataset)
        loader['sampler'] = dict(type='mmvitlin.SeededSampler', sampler=sampler)
