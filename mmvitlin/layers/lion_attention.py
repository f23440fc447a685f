"""Bidirectional linear attention with decay, the attention of LION (arXiv 2502.16249)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from mmvitlin.layers.activation_checkpoint import recompute_if_long
from mmvitlin.layers.gates import ConstantGate, SelectiveGate
from mmvitlin.layers.linear import Linear
from mmvitlin.ops.decayed_attention import (
    Form,
    Scan,
    attention_form,
    chunk_form,
    decayed_attention,
    recurrent_form,
)
from mmvitlin.ops.feature_maps import elu_features, unit_silu_features

# Mask type -> feature map of queries and keys; the gate, given width, heads and prefix tokens.
MASKS = {
    'Lit': (elu_features, None),
    'Decay': (
        unit_silu_features,
        lambda embed_dims, num_heads, _: ConstantGate(embed_dims, num_heads),
    ),
    'Selective': (unit_silu_features, SelectiveGate),
}
# Format -> form of the same numbers, given the most tokens of a chunk.
FORMS = {
    'Attention': lambda chunk_size: attention_form,
    'RNN': lambda chunk_size: recurrent_form,
    'Chunk': lambda chunk_size: partial(chunk_form, chunk_size=chunk_size),
    'auto': lambda chunk_size: partial(fastest_form, chunk_size=chunk_size),
}
# Up to so many tokens a scan the equation is faster than chunks, which go along each scan by
# themselves; its mask costs more where every image has its own. benchmarks/README.md has the
# numbers.
SHORT = {'a gate a head': 250, 'a gate a token': 150}


def fastest_form(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], chunk_size: int) -> Tensor:
    """The equation for a short sequence with decay, chunks otherwise."""
    alike = all(scan.log_gates.shape[2] == 1 for scan in scans)
    short = SHORT['a gate a head' if alike else 'a gate a token'] * len(scans)
    if q.shape[2] <= short:
        return attention_form(q, k, v, scans)
    return chunk_form(q, k, v, scans, chunk_size)


def resolve_form(format: str, chunk_size: int) -> Form:
    """The form behind the name of a format.

    Raises:
        ValueError: an unknown format, or a chunk without tokens.
    """
    if format not in FORMS:
        raise ValueError(f'format must be one of {list(FORMS)}, got {format!r}')
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f'chunk_size must be an integer of at least 1, got {chunk_size}')
    return FORMS[format](chunk_size)


class LIONAttention(nn.Module):
    """Multi-head attention along one or several scans of the tokens: (B, L, C) -> (B, L, C).

    Args:
        mask_type: a key of `MASKS`.
        num_scans: scans that `forward` is called with; each has gates of its own.
        form: of `mmvitlin.ops.decayed_attention`; may be exchanged at any time.
        num_prefix_tokens: tokens before the patches: 0 where there is no class token.
        train_gates: False keeps the gates as they are, and their gradient from the tokens.
        recompute: of a long sequence keep nothing but the input for the backward pass, since the
            steps would take more memory than all else in a layer, and take little time beside it;
            False where whoever calls recomputes it anyway.
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
        recompute: bool = True,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.form = form
        self.feature_map, gate = MASKS[mask_type]
        self.qkv = Linear(embed_dims, 3 * embed_dims)
        gates = (gate(embed_dims, num_heads, num_prefix_tokens) for _ in range(num_scans) if gate)
        self.gates = nn.ModuleList(gates)
        self.gates.requires_grad_(train_gates)
        self.train_gates = train_gates
        self.recompute = recompute
        self.proj = Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, orders: Sequence[Tensor | None]) -> Tensor:
        if self.recompute:
            return recompute_if_long(self._attend, x, orders)
        return self._attend(x, orders)

    def _attend(self, x: Tensor, orders: Sequence[Tensor | None]) -> Tensor:
        B, L, C = x.shape
        qkv = self.qkv(x).view(B, L, 3, self.num_heads, C // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, L, D)
        scans = self.scans(x, orders)
        x = decayed_attention(self.feature_map(q), self.feature_map(k), v, scans, self.form)
        return self.proj(x.transpose(1, 2).reshape(B, L, C))

    def scans(self, x: Tensor, orders: Sequence[Tensor | None]) -> list[Scan]:
        """Return the scans of tokens x (B, L, C) along `orders`; none without gates."""
        x = x if self.train_gates else x.detach()
        return [Scan(gate(x), order) for gate, order in zip(self.gates, orders)]
