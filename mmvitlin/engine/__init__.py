from mmvitlin.engine.hooks import SafeCheckpointHook

__all__ = ['SafeCheckpointHook']
