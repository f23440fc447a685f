from mmvitlin.models.backbones import LION, MAELION, L2ViT, LVViT, SimMIML2ViT, ViTLLaMA, YOLOSViT
from mmvitlin.models.heads import TokenLabelHead
from mmvitlin.models.losses import WeightedCrossEntropyLoss
from mmvitlin.models.necks import SideLayers, SimpleFeaturePyramid

__all__ = [
    'LION',
    'MAELION',
    'L2ViT',
    'LVViT',
    'SideLayers',
    'SimMIML2ViT',
    'SimpleFeaturePyramid',
    'TokenLabelHead',
    'ViTLLaMA',
    'WeightedCrossEntropyLoss',
    'YOLOSViT',
]
