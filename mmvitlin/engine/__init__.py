from mmvitlin.engine.hooks import EfficientTrainHook, SafeCheckpointHook, TokenExpansionHook
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor
from mmvitlin.engine.schedulers import WarmupCosineLR

__all__ = [
    'EfficientTrainHook',
    'LayerDecayOptimWrapperConstructor',
    'SafeCheckpointHook',
    'TokenExpansionHook',
    'WarmupCosineLR',
]
