from mmvitlin.datasets.digit_scenes import DigitScenes
from mmvitlin.datasets.digits import Digits
from mmvitlin.datasets.imagenet_tar import ImageNetTar

__all__ = ['DigitScenes', 'Digits', 'ImageNetTar']
