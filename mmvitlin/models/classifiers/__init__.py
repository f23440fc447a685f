from mmvitlin.models.classifiers.distillation import DistillationClassifier

__all__ = ['DistillationClassifier']
