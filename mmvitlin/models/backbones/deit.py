"""mmpretrain's vision transformers with the initial weights of DeiT's code."""

from mmpretrain.models import DistilledVisionTransformer, VisionTransformer
from torch import nn

from mmvitlin.registry import MODELS, register

CLASS_TOKEN_STD = 1e-6  # timm's


def draw_weights(backbone: VisionTransformer) -> None:
    """Draw the weights of linear layers from a truncated normal of 0.02; set their biases to 0.

    mmpretrain draws its position embeddings and distillation tokens so already. The class token is
    normal with 1e-6. A `Pretrained` checkpoint is left as it was loaded.
    """
    if isinstance(backbone.init_cfg, dict) and backbone.init_cfg['type'] == 'Pretrained':
        return
    for module in backbone.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if backbone.cls_token is not None:
        nn.init.normal_(backbone.cls_token, std=CLASS_TOKEN_STD)


@register(MODELS)
class DeiT(VisionTransformer):
    """mmpretrain's VisionTransformer, same arguments and weights, with DeiT's initial weights."""

    def init_weights(self) -> None:
        """Initialise the weights as DeiT's code does."""
        super().init_weights()
        draw_weights(self)


@register(MODELS)
class DistilledDeiT(DistilledVisionTransformer):
    """mmpretrain's DistilledVisionTransformer with DeiT's initial weights."""

    def init_weights(self) -> None:
        """Initialise the weights as DeiT's code does."""
        super().init_weights()
        draw_weights(self)
