"""Data for token labeling (arXiv 2104.10858): label maps, their data set and their transforms."""

from mmvitlin.datasets.token_labels.dataset import TokenLabelDataset
from mmvitlin.datasets.token_labels.files import TokenLabelError
from mmvitlin.datasets.token_labels.transforms import (
    TokenLabelAugment,
    TokenLabelCrop,
    TokenLabelFlip,
)

__all__ = [
    'TokenLabelAugment',
    'TokenLabelCrop',
    'TokenLabelDataset',
    'TokenLabelError',
    'TokenLabelFlip',
]
