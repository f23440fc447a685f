from mmvitlin.engine.hooks.average_hook import AverageHook
from mmvitlin.engine.hooks.efficient_train_hook import EfficientTrainHook
from mmvitlin.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from mmvitlin.engine.hooks.token_expansion_hook import TokenExpansionHook

__all__ = ['AverageHook', 'EfficientTrainHook', 'SafeCheckpointHook', 'TokenExpansionHook']
