from mmvitlin.models.backbones import L2ViT

__all__ = ['L2ViT']
