"""mmpretrain's vision transformers with the initial weights of DeiT's code."""

from mmengine.model import BaseModule
from mmpretrain.models import DistilledVisionTransformer, VisionTransformer
from torch import nn

from mmvitlin.registry import MODELS, register

CLASS_TOKEN_STD = 1e-6  # timm's


class _OriginalStart(BaseModule):
    """Initial weights of DeiT's code, which mmpretrain's layers draw differently."""

    cls_token: nn.Parameter | None

    def init_weights(self) -> None:
        """Draw the weights of linear layers from a truncated normal of 0.02; their biases are 0.

        mmpretrain's position embeddings and distillation tokens already have these values. The
        class token is normal with 1e-6. Weights of a `Pretrained` checkpoint are kept.
        """
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=CLASS_TOKEN_STD)


@register(MODELS)
class DeiT(_OriginalStart, VisionTransformer):
    """mmpretrain's VisionTransformer, same arguments and weights, with DeiT's initial weights."""


@register(MODELS)
class DistilledDeiT(_OriginalStart, DistilledVisionTransformer):
    """mmpretrain's DistilledVisionTransformer with DeiT's initial weights."""
