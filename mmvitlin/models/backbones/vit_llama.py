"""ViT-LLaMA: a plain ViT with a frozen block of LLaMA after its layers (arXiv 2310.12973)."""

import logging
from collections.abc import Sequence

from mmengine.logging import print_log
from torch import Tensor, nn

from mmvitlin.errors import CheckpointError
from mmvitlin.layers.gradient_checkpointing import run_block
from mmvitlin.layers.self_attention import SelfAttention
from mmvitlin.models.backbones.frozen_llama import FrozenLLaMA
from mmvitlin.models.backbones.plain_vit import PlainViT, Tokens
from mmvitlin.registry import MODELS, register


@register(MODELS)
class ViTLLaMA(PlainViT):
    """ViT-LLaMA, `Frozen Transformers in Language Models Are Effective Visual Encoder Layers`.

    After the last layer of a plain ViT, a linear layer projects the tokens to LLaMA's width, the
    last block of LLaMA and an RMSNorm follow, and a linear layer projects them back. The block is
    frozen and everything else is trained. Outputs of earlier layers do not contain it. `PlainViT`
    documents the other arguments, `forward` and errors.

    Args:
        llama: arguments of `FrozenLLaMA`: embed_dims (4096), num_heads (32), feedforward_channels
            (11008), num_blocks (1), checkpoint (None; the path of LLaMA's weights, or 'random'),
            dtype ('float32') and save (False; write the block into checkpoints).

    Raises:
        CheckpointError: in the first forward pass, if the block's weights come neither from
            `llama['checkpoint']` nor from a checkpoint of the model.
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
            self.llama_in = nn.Linear(self.embed_dims, frozen.embed_dims, bias=False)
            self.llama = frozen
            self.llama_out = nn.Linear(frozen.embed_dims, self.embed_dims, bias=False)

    def init_weights(self) -> None:
        super().init_weights()
        if hasattr(self, 'llama'):
            try:
                self.llama.prepare()
            except CheckpointError as error:  # a checkpoint to resume may still hold the weights
                print_log(str(error), 'current', logging.WARNING)

    def read_out(self, index: int, tokens: Tokens) -> Tensor:
        if index == self.num_layers - 1:
            x = run_block(self.llama, self.llama_in(tokens.x), with_cp=self.with_cp)
            tokens.x = self.llama_out(x)
        return super().read_out(index, tokens)

    def adapt_state_dict(self, weights: dict[str, Tensor]) -> None:
        super().adapt_state_dict(weights)
        if hasattr(self, 'llama'):
            self.llama.take_from(weights, 'llama.')
