"""ViT-LLaMA: a plain ViT whose tokens go through a frozen block of LLaMA (arXiv 2310.12973)."""

import logging
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmvitlin.errors import CheckpointError
from mmvitlin.layers.activation_checkpoint import checkpoint_block
from mmvitlin.layers.frozen_llama import FrozenLLaMA
from mmvitlin.layers.linear import Linear
from mmvitlin.layers.self_attention import SelfAttention
from mmvitlin.models.backbones.plain_vit import PlainViT
from mmvitlin.registry import MODELS, register


@register(MODELS)
class ViTLLaMA(PlainViT):
    """ViT-LLaMA, `Frozen Transformers in Language Models Are Effective Visual Encoder Layers`.

    Behind the last layer of a plain ViT a linear layer widens the tokens, the last block of LLaMA
    and an RMSNorm refine them, and a linear layer brings them back to the ViT's width. The block is
    frozen, the rest learns around it. Outputs of layers before the last do not see it. Arguments
    that are not listed, what `forward` takes and what it raises are those of `PlainViT`.

    Args:
        llama: arguments of `mmvitlin.layers.frozen_llama.FrozenLLaMA`, which says more: embed_dims
            (4096), num_heads (32), feedforward_channels (11008), num_blocks (1), checkpoint (None;
            the path of LLaMA's weights, or 'random'), dtype ('float32') and save (False; write the
            block into checkpoints).

    Raises:
        CheckpointError: at the first images, where neither the file that `llama` names nor a
            checkpoint of the model brought the block's weights; it says how to get them.
    """

    def __init__(
        self,
        arch: str | dict = 'small',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        llama: dict | None = None,
        with_cls_token: bool = True,
        out_type: str = 'cls_token',
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            pos_emb=True,
            with_cls_token=with_cls_token,
            out_type=out_type,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
            attention=SelfAttention,
        )
        if with_cls_token:
            nn.init.normal_(self.cls_token, std=1e-6)  # as timm's; the base's is LION's, of 0.02
        frozen = FrozenLLaMA(**llama or {})
        if len(self.layers) == self.num_layers:
            self.llama_in = Linear(self.embed_dims, frozen.embed_dims, bias=False)
            self.llama = frozen
            self.llama_out = Linear(frozen.embed_dims, self.embed_dims, bias=False)

    def init_weights(self) -> None:
        super().init_weights()
        if hasattr(self, 'llama'):
            try:
                self.llama.prepare()
            except CheckpointError as error:  # which matters unless a checkpoint is resumed now
                print_log(str(error), 'current', logging.WARNING)

    def after_layers(self, tokens: Tensor) -> Tensor:
        x = self.llama_in(tokens)
        recompute = self.with_cp and torch.is_grad_enabled()
        x = checkpoint_block(self.llama, x) if recompute else self.llama(x)
        return self.llama_out(x)

    def fit_pretrained(self, weights: dict[str, Tensor]) -> None:
        super().fit_pretrained(weights)
        if hasattr(self, 'llama'):
            self.llama.take_from(weights, 'llama.')
