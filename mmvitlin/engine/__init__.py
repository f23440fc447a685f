from mmvitlin.engine.hooks import (
    AverageHook,
    EfficientTrainHook,
    SafeCheckpointHook,
    TokenExpansionHook,
)
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmvitlin.engine.schedulers import WarmupCosineLR

__all__ = [
    'AverageHook',
    'EfficientTrainHook',
    'LayerDecayOptimWrapperConstructor',
    'SafeCheckpointHook',
    'TokenExpansionHook',
    'WarmupCosineLR',
]
