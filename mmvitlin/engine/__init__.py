from mmvitlin.engine.hooks import (
    FiniteLossHook,
    InterruptHook,
    RandomStateHook,
    SafeCheckpointHook,
)
from mmvitlin.engine.loops import ResumableEpochLoop, ResumableIterLoop
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor

__all__ = [
    'FiniteLossHook',
    'InterruptHook',
    'LayerDecayOptimWrapperConstructor',
    'RandomStateHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'SafeCheckpointHook',
]
