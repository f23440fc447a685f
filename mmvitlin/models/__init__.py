from mmvitlin.models.backbones import LION, L2ViT, LVViT, ViTLLaMA
from mmvitlin.models.heads import TokenLabelHead

__all__ = ['LION', 'L2ViT', 'LVViT', 'TokenLabelHead', 'ViTLLaMA']
