from mmvitlin.models.backbones.l2vit import L2ViT
from mmvitlin.models.backbones.lion import LION

__all__ = ['LION', 'L2ViT']
