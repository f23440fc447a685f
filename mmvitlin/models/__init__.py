from mmvitlin.models.backbones import LION, L2ViT, ViTLLaMA

__all__ = ['LION', 'L2ViT', 'ViTLLaMA']
