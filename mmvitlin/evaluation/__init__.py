from mmvitlin.evaluation.adversarial_loop import AdversarialTestLoop
from mmvitlin.evaluation.corruption_error import CorruptionError
from mmvitlin.evaluation.real_accuracy import ReaLAccuracy
from mmvitlin.evaluation.subset_accuracy import SubsetAccuracy

__all__ = ['AdversarialTestLoop', 'CorruptionError', 'ReaLAccuracy', 'SubsetAccuracy']
