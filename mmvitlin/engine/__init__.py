from mmvitlin.engine.hooks import (
    FiniteLossHook,
    InterruptHook,
    RandomStateHook,
    SafeCheckpointHook,
)
from mmvitlin.engine.loops import ResumableEpochLoop, ResumableIterLoop
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmvitlin.engine.seeded import SeededDataset, SeededSampler

__all__ = [
    'FiniteLossHook',
    'InterruptHook',
    'LayerDecayOptimWrapperConstructor',
    'RandomStateHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'SafeCheckpointHook',
    'SeededDataset',
    'SeededSampler',
]
