from mmvitlin.datasets.digits import Digits, DigitScenes
from mmvitlin.datasets.imagenet_tar import ImageNetTar
from mmvitlin.datasets.token_labels import (
    TokenLabelAugment,
    TokenLabelCrop,
    TokenLabelDataset,
    TokenLabelError,
    TokenLabelFlip,
)

__all__ = [
    'DigitScenes',
    'Digits',
    'ImageNetTar',
    'TokenLabelAugment',
    'TokenLabelCrop',
    'TokenLabelDataset',
    'TokenLabelError',
    'TokenLabelFlip',
]
