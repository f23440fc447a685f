from mmvitlin.models.backbones import L2ViT, LION

__all__ = ['L2ViT', 'LION']
