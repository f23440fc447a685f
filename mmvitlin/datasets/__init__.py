from mmvitlin.datasets.digit_scenes import DigitScenes
from mmvitlin.datasets.digits import Digits
from mmvitlin.datasets.imagenet_tar import ImageNetTar
from mmvitlin.datasets.random_interpolation import RandomInterpolation
from mmvitlin.datasets.token_label_dataset import TokenLabelDataset
from mmvitlin.datasets.token_label_files import TokenLabelError
from mmvitlin.datasets.token_label_transforms import (
    TokenLabelAugment,
    TokenLabelCrop,
    TokenLabelFlip,
)
from mmvitlin.datasets.whole_step_sampler import WholeStepSampler

__all__ = [
    'DigitScenes',
    'Digits',
    'ImageNetTar',
    'RandomInterpolation',
    'TokenLabelAugment',
    'TokenLabelCrop',
    'TokenLabelDataset',
    'TokenLabelError',
    'TokenLabelFlip',
    'WholeStepSampler',
]
