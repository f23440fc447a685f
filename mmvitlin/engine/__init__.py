from mmvitlin.engine.hooks import EfficientTrainHook, SafeCheckpointHook, TokenExpansionHook
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor

__all__ = [
    'EfficientTrainHook',
    'LayerDecayOptimWrapperConstructor',
    'SafeCheckpointHook',
    'TokenExpansionHook',
]
