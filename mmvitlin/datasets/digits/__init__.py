"""Data sets that need no download, made of the handwritten digits that scikit-learn ships."""

from mmvitlin.datasets.digits.digit_scenes import DigitScenes
from mmvitlin.datasets.digits.digits import Digits

__all__ = ['DigitScenes', 'Digits']
