"""LION: a plain ViT with bidirectional linear attention (arXiv 2502.16249)."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mmvitlin.checks import one_of, positive_int
from mmvitlin.layers.lion_attention import FORMATS, MASK_TYPES, LIONAttention
from mmvitlin.models.backbones.plain_vit import PlainViT, TokenReduction, Tokens
from mmvitlin.ops.decayed_attention import CHUNK_SIZE, Form
from mmvitlin.ops.scan_orders import order_of_subset, snake_orders
from mmvitlin.registry import MODELS, register


def _row_by_row(
    rows: int, columns: int, device: torch.device, num_prefix_tokens: int = 1
) -> tuple[None]:
    return (None,)


# order -> scan orders of a grid; None is the tokens' own order, row by row.
ORDERS = {'Normal': _row_by_row, 'S': snake_orders}
NUM_SCANS = {'Normal': 1, 'S': 2}


def _form_of(format: str, chunk_size: int) -> Form:
    return FORMATS[one_of('format', format, FORMATS)](positive_int('chunk_size', chunk_size))


@register(MODELS)
class LION(PlainViT):
    """LION, `Linear Attention for Efficient Bidirectional Sequence Modeling` (arXiv 2502.16249).

    Attention weights decay with the distance of two tokens along a scan of the patches: not at all
    (LION-Lit), by a learned gate per head (LION-D), or by a gate per token and head that is
    computed from the token (LION-S). `PlainViT` documents the other arguments, `forward` and
    errors.

    Args:
        mask_type: 'Lit', 'Decay' or 'Selective'.
        order: 'Normal' scans row by row; 'S' (the paper's natural order) sums a scan along rows and
            a scan along columns, both in alternating directions.
        format: form of the computation, which does not change the result: 'Attention' computes the
            L x L matrix, 'RNN' a recurrence token by token, 'Chunk' chunks, in linear time; 'FLA'
            chunks by flash-linear-attention on GPUs where it is installed, else 'Chunk'; 'auto'
            is 'Attention' for short sequences and 'Chunk' for long ones, by counts of operations.
            `switch_format` changes it.
        chunk_size: the most tokens in a chunk.
        train_gates: train the gates. False reproduces the released code, which detaches the gates
            of 'Selective', so that they keep their initial weights.
        pos_emb: add a learned position embedding; the paper has none.
        out_type: as in `PlainViT`; the paper averages all tokens.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        mask_type: str = 'Decay',
        order: str = 'Normal',
        format: str = 'auto',
        chunk_size: int = CHUNK_SIZE,
        train_gates: bool = True,
        pos_emb: bool = False,
        with_cls_token: bool = True,
        out_type: str = 'avg_tokens',
        drop_path_rate: float = 0.0,
        out_indices: int | Sequence[int] = -1,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        one_of('mask_type', mask_type, MASK_TYPES)
        one_of('order', order, ORDERS)
        if mask_type == 'Lit' and not train_gates:
            raise ValueError("train_gates=False: mask_type 'Lit' has no gates to freeze")
        attention = partial(
            LIONAttention,
            mask_type=mask_type,
            num_scans=NUM_SCANS[order],
            form=_form_of(format, chunk_size),
            num_prefix_tokens=int(with_cls_token),
            train_gates=train_gates,
            checkpoint_long=not with_cp,
        )
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            in_channels=in_channels,
            pos_emb=pos_emb,
            with_cls_token=with_cls_token,
            out_type=out_type,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            init_cfg=init_cfg,
            attention=attention,
        )
        self.orders = ORDERS[order]
        self.format, self.chunk_size = format, chunk_size

    def switch_format(self, format: str, chunk_size: int | None = None) -> None:
        """Switch to another format, without a change of weights and results.

        Args:
            format: as in the class.
            chunk_size: as in the class; None keeps the current one.

        Raises:
            ValueError: an unknown format, or a chunk size below 1.
        """
        chunk_size = self.chunk_size if chunk_size is None else chunk_size
        form = _form_of(format, chunk_size)
        self.format, self.chunk_size = format, chunk_size
        for layer in self.layers:
            layer.attn.form = form

    def embed(self, images: Tensor) -> Tokens:
        tokens = super().embed(images)
        orders = self.orders(*tokens.grid, images.device, self.num_prefix_tokens)
        tokens.layer_inputs = (orders,)
        return tokens

    def reduce_tokens(self, tokens: Tokens, reduction: TokenReduction) -> None:
        """Reduce the tokens in place, in their own order, and their scan orders with them."""
        super().reduce_tokens(tokens, reduction)
        if tokens.keep_indices is None:
            return
        tokens.keep_indices, rank = tokens.keep_indices.sort(1)
        tokens.x = tokens.x.gather(1, rank[..., None].expand_as(tokens.x))
        (orders,) = tokens.layer_inputs
        orders = tuple(order_of_subset(order, tokens.keep_indices) for order in orders)
        tokens.layer_inputs = (orders,)
