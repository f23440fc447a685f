"""Models that teach others: FrozenTeacher for distillation, TokenLabeller for token labels."""

from mmvitlin.models.teachers.dense_logits import DenseLogits, NoFeatureMapError
from mmvitlin.models.teachers.frozen_teacher import FrozenTeacher, TeacherError
from mmvitlin.models.teachers.token_labeller import TokenLabeller

__all__ = ['DenseLogits', 'FrozenTeacher', 'NoFeatureMapError', 'TeacherError', 'TokenLabeller']
