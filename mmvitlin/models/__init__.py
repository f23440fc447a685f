from mmvitlin.models.backbones import LION, L2ViT, LVViT, ViTLLaMA, YOLOSViT
from mmvitlin.models.heads import TokenLabelHead
from mmvitlin.models.losses import WeightedCrossEntropyLoss
from mmvitlin.models.necks import SideLayers, SimpleFeaturePyramid

__all__ = [
    'LION',
    'L2ViT',
    'LVViT',
    'SideLayers',
    'SimpleFeaturePyramid',
    'TokenLabelHead',
    'ViTLLaMA',
    'WeightedCrossEntropyLoss',
    'YOLOSViT',
]
