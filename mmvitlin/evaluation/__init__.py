from mmvitlin.evaluation.real_accuracy import ReaLAccuracy

__all__ = ['ReaLAccuracy']
