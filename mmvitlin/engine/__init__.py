from mmvitlin.engine.hooks import (
    AverageHook,
    FiniteLossHook,
    InterruptHook,
    ProgressHook,
    RandomStateHook,
    SafeCheckpointHook,
)
from mmvitlin.engine.loops import ResumableEpochLoop, ResumableIterLoop
from mmvitlin.engine.optim_wrappers import MixedPrecisionOptimWrapper
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmvitlin.engine.schedulers import WarmupCosineLR
from mmvitlin.engine.seeded import SeededDataset, SeededSampler
from mmvitlin.engine.strategies import ShardedStrategy

__all__ = [
    'AverageHook',
    'FiniteLossHook',
    'InterruptHook',
    'LayerDecayOptimWrapperConstructor',
    'MixedPrecisionOptimWrapper',
    'ProgressHook',
    'RandomStateHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'SafeCheckpointHook',
    'SeededDataset',
    'SeededSampler',
    'ShardedStrategy',
    'WarmupCosineLR',
]
