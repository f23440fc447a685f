from mmvitlin.models.backbones.l2vit import L2ViT

__all__ = ['L2ViT']
