from mmvitlin.engine.hooks import (
    EfficientTrainHook,
    FiniteLossHook,
    InterruptHook,
    RandomStateHook,
    SafeCheckpointHook,
    TokenExpansionHook,
)
from mmvitlin.engine.loops import ResumableEpochLoop, ResumableIterLoop
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor

__all__ = [
    'EfficientTrainHook',
    'FiniteLossHook',
    'InterruptHook',
    'LayerDecayOptimWrapperConstructor',
    'RandomStateHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'SafeCheckpointHook',
    'TokenExpansionHook',
]
