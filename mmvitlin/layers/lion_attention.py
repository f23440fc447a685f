"""Bidirectional linear attention with decay, the attention of LION (arXiv 2502.16249)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmvitlin.layers.gates import ConstantGate, constant_log_gates, selective_log_gates
from mmvitlin.layers.gradient_checkpointing import checkpoint_if_long
from mmvitlin.ops.decayed_attention import (
    Form,
    Scan,
    blocked_chunk_form,
    blocked_naive_form,
    decayed_attention,
    recurrent_form,
)
from mmvitlin.ops.decayed_attention.fla import fla_form
from mmvitlin.ops.feature_maps import elu_features, silu_features, unit_silu_features
from mmvitlin.ops.symbolic import is_fixed

Gate = Callable[[int, int], nn.Module]
LogGates = Callable[[Any, Tensor, int], Tensor]
Features = Callable[[Tensor], Tensor]


class MaskType(NamedTuple):
    """A kind of decay.

    Args:
        query_features, key_features: feature maps. The paper normalises both; the norm of a query
            divides numerator and denominator alike, so that it is left out.
        gate: builds a gate from width and heads; None for no decay.
        log_gates: logarithms of the gates of tokens.
    """

    query_features: Features
    key_features: Features
    gate: Gate | None = None
    log_gates: LogGates | None = None


MASK_TYPES: dict[str, MaskType] = {
    'Lit': MaskType(elu_features, elu_features),
    'Decay': MaskType(
        silu_features,
        unit_silu_features,
        lambda embed_dims, num_heads: ConstantGate(num_heads),
        constant_log_gates,
    ),
    'Selective': MaskType(silu_features, unit_silu_features, nn.Linear, selective_log_gates),
}
# Format -> form, given the chunk size. All forms compute the same numbers.
FORMATS: dict[str, Callable[[int], Form]] = {
    'Attention': lambda chunk_size: blocked_naive_form,
    'RNN': lambda chunk_size: recurrent_form,
    'Chunk': lambda chunk_size: partial(blocked_chunk_form, chunk_size=chunk_size),
    'FLA': lambda chunk_size: partial(fla_form, chunk_size=chunk_size),
    'auto': lambda chunk_size: partial(fastest_form, chunk_size=chunk_size),
}
ELEMENT_COST = 16  # multiply-adds in the time of writing one element


def quadratic_max_tokens(head_dims: int, chunk_size: int, num_scans: int, shared: bool) -> int:
    """Compute the number of tokens up to which the naive form costs less than chunks.

    Operations are counted per token and head, with D channels, chunks of C tokens and s scans. The
    naive form needs 2 D multiply-adds per other token and writes weights, their product with the
    mask, and the masks. Chunks need s (2 C D + 4 D^2) multiply-adds and write three elements per
    other token of the chunk, scaled queries and keys, states and sums.

    Args:
        shared: whether all images have the same masks, whose cost is then left out.
    """
    D, C = head_dims, chunk_size
    per_pair = 2 * D + ELEMENT_COST * (2 if shared else 2 + num_scans)
    per_token = 2 * C * D + 4 * D**2 + ELEMENT_COST * (3 * C + 6 * D + 4 * D**2 // C)
    return num_scans * per_token // per_pair


def fastest_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], chunk_size: int) -> Tensor:
    """Compute the naive form of a short sequence with decay, and the chunk form otherwise.

    `quadratic_max_tokens` gives the limit. A symbolic length, in an export or a trace, must not be
    compared: chunks work for all lengths.
    """
    length, head_dims = q.shape[2:]
    shared = all(scan.log_gates.shape[0] == 1 for scan in scans)
    if is_fixed(length) and length <= quadratic_max_tokens(
        head_dims, chunk_size, len(scans), shared
    ):
        return blocked_naive_form(q, k, v, scans)
    return blocked_chunk_form(q, k, v, scans, chunk_size)


class LIONAttention(nn.Module):
    """Multi-head attention along one or several scans of the tokens: (B, L, C) -> (B, L, C).

    Args:
        mask_type: a key of `MASK_TYPES`.
        num_scans: number of scans in `forward`; each has its own gates.
        form: a form of `mmvitlin.ops.decayed_attention`; may be replaced at any time.
        num_prefix_tokens: tokens before the patches, such as the class token.
        train_gates: False freezes the gates, and stops their gradient to the tokens.
        checkpoint_long: checkpoint the whole attention of a long sequence, whose steps would take
            more memory than the rest of a layer. False if the caller checkpoints the layer.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        mask_type: str,
        num_scans: int,
        form: Form,
        num_prefix_tokens: int = 1,
        train_gates: bool = True,
        checkpoint_long: bool = True,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.form = form
        self.num_prefix_tokens = num_prefix_tokens
        self.query_features, self.key_features, gate, self.log_gates = MASK_TYPES[mask_type]
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims)
        self.gates = nn.ModuleList(gate(embed_dims, num_heads) for _ in range(num_scans) if gate)
        self.gates.requires_grad_(train_gates)
        self.train_gates = train_gates
        self.checkpoint_long = checkpoint_long
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, orders: Sequence[Tensor | None]) -> Tensor:
        if self.checkpoint_long:
            return checkpoint_if_long(self._attend, x, orders)
        return self._attend(x, orders)

    def _attend(self, x: Tensor, orders: Sequence[Tensor | None]) -> Tensor:
        B, L, C = x.shape
        qkv = self.qkv(x).view(B, L, 3, self.num_heads, C // self.num_heads)
        q, k, v = (x.transpose(1, 2) for x in qkv.unbind(2))  # each (B, heads, L, D)
        q, k = self.query_features(q), self.key_features(k)
        x = decayed_attention(q, k, v, self.scans(x, orders), self.form)
        return self.proj(x.transpose(1, 2).reshape(B, L, C))

    def scans(self, x: Tensor, orders: Sequence[Tensor | None]) -> list[Scan]:
        """Return the scans of tokens x (B, L, C) along `orders`; none without gates."""
        log_gates = self.log_gates
        if log_gates is None:
            return []
        x = x if self.train_gates else x.detach()
        return [
            Scan(log_gates(gate, x, self.num_prefix_tokens), order)
            for gate, order in zip(self.gates, orders)
        ]
