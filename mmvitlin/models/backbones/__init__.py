from mmvitlin.models.backbones.l2vit import L2ViT
from mmvitlin.models.backbones.lion import LION
from mmvitlin.models.backbones.lvvit import LVViT
from mmvitlin.models.backbones.vit_llama import ViTLLaMA
from mmvitlin.models.backbones.yolos import YOLOSViT

__all__ = ['LION', 'L2ViT', 'LVViT', 'ViTLLaMA', 'YOLOSViT']
