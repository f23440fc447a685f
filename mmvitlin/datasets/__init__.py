from mmvitlin.datasets.digit_scenes import DigitScenes
from mmvitlin.datasets.digits import Digits

__all__ = ['DigitScenes', 'Digits']
