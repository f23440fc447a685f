from mmvitlin.engine.hooks import SafeCheckpointHook, TokenExpansionHook
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor', 'SafeCheckpointHook', 'TokenExpansionHook']
