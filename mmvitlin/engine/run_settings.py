"""Settings that make the training of any config safe to stop: hooks, loop, seeded samples."""

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log

from mmvitlin.checkpoints.safe_load import register_safe_loaders

# Defaults that are added to default_hooks; a config leaves a hook out by None.
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
    """Load and save checkpoints safely, and add the hooks that make resuming exact.

    MMEngine's CheckpointHook in a config of the hosts becomes our SafeCheckpointHook with the same
    settings, and the hooks above are added.
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

    MMEngine's two loops become ours, and samples are seeded by their position in the training.
    Loops and loaders of another kind stay as they are.
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
        # ConfigDict merges an assigned dict with the keys of the old one, so build new dicts.
        loader['dataset'] = dict(type='mmvitlin.SeededDataset', dataset=dataset)
        loader['sampler'] = dict(type='mmvitlin.SeededSampler', sampler=sampler)
