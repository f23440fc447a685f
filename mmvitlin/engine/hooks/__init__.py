from mmvitlin.engine.hooks.average_hook import AverageHook
from mmvitlin.engine.hooks.finite_loss_hook import FiniteLossHook
from mmvitlin.engine.hooks.interrupt_hook import InterruptHook
from mmvitlin.engine.hooks.progress_hook import ProgressHook
from mmvitlin.engine.hooks.random_state_hook import RandomStateHook
from mmvitlin.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from mmvitlin.engine.hooks.whole_checkpoint_hook import WholeCheckpointHook

__all__ = [
    'AverageHook',
    'FiniteLossHook',
    'InterruptHook',
    'ProgressHook',
    'RandomStateHook',
    'SafeCheckpointHook',
    'WholeCheckpointHook',
]
