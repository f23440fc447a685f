from mmvitlin.curricula.efficient_train.hook import EfficientTrainHook
from mmvitlin.curricula.token_expansion.hook import TokenExpansionHook

__all__ = ['EfficientTrainHook', 'TokenExpansionHook']
