from mmvitlin.engine.hooks import SafeCheckpointHook
from mmvitlin.engine.optimizers import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor', 'SafeCheckpointHook']
