from mmvitlin.models.backbones import LION, L2ViT

__all__ = ['LION', 'L2ViT']
