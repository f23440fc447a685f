"""Data sets without a download, from the handwritten digits in scikit-learn."""

from mmvitlin.datasets.digits.digit_keypoints import DigitKeypoints
from mmvitlin.datasets.digits.digit_scenes import DigitScenes
from mmvitlin.datasets.digits.digits import Digits

__all__ = ['DigitKeypoints', 'DigitScenes', 'Digits']
