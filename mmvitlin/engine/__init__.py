from mmvitlin.engine.hooks import (
    AverageHook,
    EfficientTrainHook,
    SafeCheckpointHook,
    TokenExpansionHook,
)
from mmvitlin.engine.optim_wrappers import MixedPrecisionOptimWrapper
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmvitlin.engine.schedulers import WarmupCosineLR

__all__ = [
    'AverageHook',
    'EfficientTrainHook',
    'LayerDecayOptimWrapperConstructor',
    'MixedPrecisionOptimWrapper',
    'SafeCheckpointHook',
    'TokenExpansionHook',
    'WarmupCosineLR',
]
