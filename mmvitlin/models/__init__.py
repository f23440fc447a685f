from mmvitlin.models.backbones import LION, L2ViT, ViTLLaMA
from mmvitlin.models.necks import SimpleFeaturePyramid

__all__ = ['LION', 'L2ViT', 'SimpleFeaturePyramid', 'ViTLLaMA']
