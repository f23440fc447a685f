from mmvitlin.models.backbones.l2vit import L2ViT
from mmvitlin.models.backbones.lion import LION
from mmvitlin.models.backbones.lvvit import LVViT
from mmvitlin.models.backbones.mae_lion import MAELION
from mmvitlin.models.backbones.simmim_l2vit import SimMIML2ViT
from mmvitlin.models.backbones.vit_llama import ViTLLaMA
from mmvitlin.models.backbones.yolos import YOLOSViT

__all__ = ['LION', 'MAELION', 'L2ViT', 'LVViT', 'SimMIML2ViT', 'ViTLLaMA', 'YOLOSViT']
