from mmvitlin.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from mmvitlin.engine.hooks.token_expansion_hook import TokenExpansionHook

__all__ = ['SafeCheckpointHook', 'TokenExpansionHook']
