from mmvitlin.datasets.digits import DigitKeypoints, Digits, DigitScenes
from mmvitlin.datasets.imagenet_tar import ImageNetTar
from mmvitlin.datasets.load_and_crop import LoadAndCrop
from mmvitlin.datasets.random_interpolation import RandomInterpolation
from mmvitlin.datasets.resize_to_patches import ResizeToPatches
from mmvitlin.datasets.token_labels import (
    TokenLabelAugment,
    TokenLabelCrop,
    TokenLabelDataset,
    TokenLabelError,
    TokenLabelFlip,
)
from mmvitlin.datasets.whole_step_sampler import WholeStepSampler

__all__ = [
    'DigitKeypoints',
    'DigitScenes',
    'Digits',
    'ImageNetTar',
    'LoadAndCrop',
    'RandomInterpolation',
    'ResizeToPatches',
    'TokenLabelAugment',
    'TokenLabelCrop',
    'TokenLabelDataset',
    'TokenLabelError',
    'TokenLabelFlip',
    'WholeStepSampler',
]
