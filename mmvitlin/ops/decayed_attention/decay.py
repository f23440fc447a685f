"""Scans, their decay masks, and decayed attention by any form."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.precision import without_autocast
from mmvitlin.ops.quotient import Quotient
from mmvitlin.ops.symbolic import is_captured, is_exporting, is_fixed

# Lower bound of the logarithms of decays. Smaller decays vanish beside M_ii = 1 in their dtype. An
# exp that underflows takes thirty times as long, and so do products of denormal numbers; the
# product of two decays at the bound is not denormal.
MIN_LOG_DECAY = {torch.float32: -40.0, torch.float64: -300.0}
MASK_BLOCK = 16  # tokens in a block of `mask_parts`


class Scan(NamedTuple):
    """A scan of the tokens: their gates, and the order in which they are visited.

    Args:
        log_gates: logarithms of the gates, at most 0, in the tokens' own order, (B or 1, H, L), or
            (B or 1, H, 1) for heads with one gate for all tokens.
        order: positions of the tokens in the order of the scan, (L,), or (B, L) for an order per
            image; None for the tokens' own order.
    """

    log_gates: Tensor
    order: Tensor | None = None


Form = Callable[[Tensor, Tensor, Tensor, Sequence[Scan]], Tensor]


def decayed_attention(q: Tensor, k: Tensor, v: Tensor, scans: Sequence[Scan], form: Form) -> Tensor:
    """Attend in both directions along each of `scans`.

    Half-precision inputs are computed in float32.

    Args:
        q, k: queries and keys after their feature map, so that q_i . k_j > 0, (B, H, L, D).
        v: values, (B, H, L, E).
        scans: of the tokens; an empty sequence for M = 1.
        form: one of the forms of this package.

    Returns:
        (B, H, L, E) in the dtype of v.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    with without_autocast(v):
        sums = form(q.to(dtype), k.to(dtype), v.to(dtype), scans)
        if torch.is_grad_enabled() and not is_captured():
            return _Ratio.apply(sums)[0].to(v.dtype)
        numerator, denominator = _split(sums)
        divide = torch.div if torch.is_grad_enabled() else Tensor.div_
        return divide(numerator, denominator).to(v.dtype)


def _split(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Split sums (..., E + 1) into numerator (..., E) and denominator (..., 1)."""
    numerator, denominator = sums.tensor_split([-1], -1)
    # The floor gives 0, not nan, if all features of a query have underflowed to 0.
    return numerator, denominator.clamp(min=torch.finfo(sums.dtype).tiny)


class _Ratio(Quotient):
    """Numerator over denominator, (..., E + 1) -> (..., E), and the denominator."""

    @staticmethod
    def forward(sums: Tensor) -> tuple[Tensor, Tensor]:
        numerator, denominator = _split(sums)
        return numerator / denominator, denominator

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        out, denominator = ctx.saved_tensors
        gradient = gradient / denominator
        return torch.cat([gradient, -(gradient * out).sum(-1, keepdim=True)], -1)


def sum_over_scans(
    form: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scans: Sequence[Scan],
) -> Tensor:
    """Sum `form(q, k, v, log_gates)` over scans; `form` is given the tokens in the scan's order."""
    sums = []
    for log_gates, order in scans:
        if order is None:
            sums.append(form(q, k, v, log_gates))
        else:
            gates = log_gates if log_gates.shape[2] == 1 else gather_tokens(log_gates, order)
            along = form(
                gather_tokens(q, order), gather_tokens(k, order), gather_tokens(v, order), gates
            )
            sums.append(gather_tokens(along, order.argsort(-1)))
    return sum(sums[1:], sums[0])


def gather_tokens(x: Tensor, order: Tensor) -> Tensor:
    """Reorder tokens of x (B or 1, H, L, ...) by an order (L,), or (B, L) for one per image."""
    if order.ndim == 1:
        return x.index_select(2, order)
    return torch.take_along_dim(x, order[:, None].unflatten(-1, (-1, *[1] * (x.ndim - 3))), 2)


def append_ones(v: Tensor) -> Tensor:
    """Append a column of ones to v (..., E): its weighted sum is the denominator."""
    return F.pad(v, (0, 1), value=1.0)


def cumulative_log_gates(log_gates: Tensor) -> tuple[Tensor, Tensor]:
    """Sum log gates over the tokens before each token, and over those up to and including it.

    Sums are in float64: in float32, differences of sums over a thousand gates near 0 would have
    three digits.
    """
    log_gates = log_gates.double().clamp(min=MIN_LOG_DECAY[torch.float64])
    through = log_gates.cumsum(-1)
    return through - log_gates, through


def exp_clamped(logs: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute exp of `logs`, at least `MIN_LOG_DECAY`, in `dtype`."""
    return logs.clamp(min=MIN_LOG_DECAY[dtype]).to(dtype).exp()


def decay_mask(scan: Scan, length: int, dtype: torch.dtype) -> Tensor:
    """Compute M of a scan over `length` tokens, in the tokens' own order, (B or 1, H, L, L)."""
    log_gates, order = scan.log_gates.expand(-1, -1, length), scan.order
    if is_fixed(length) and not is_exporting():  # ONNX has no form of `join_mask`
        if is_captured():
            return join_mask(mask_parts(scan, length, dtype), length)
        return _DecayMask.apply(log_gates, order, dtype)
    if order is None:
        return mask_from_sums(*cumulative_log_gates(log_gates), dtype)
    mask = mask_from_sums(*cumulative_log_gates(gather_tokens(log_gates, order)), dtype)
    rank = order.argsort(-1)
    return gather_tokens(gather_tokens(mask.mT, rank).mT, rank)


class _DecayMask(torch.autograd.Function):
    """M of a scan, of which only M is kept for the backward pass.

    The gate of a token appears in all M_ij of tokens i, j on both sides of it, so that sums over
    the rows and columns of M_ij * gradient_ij give its gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(log_gates: Tensor, order: Tensor | None, dtype: torch.dtype) -> Tensor:
        length = log_gates.shape[-1]
        return join_mask(mask_parts(Scan(log_gates, order), length, dtype), length)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        log_gates, order, _ = inputs
        ctx.save_for_backward(output, order)
        ctx.shape, ctx.dtype = log_gates.shape, log_gates.dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        mask, order = ctx.saved_tensors
        weights = gradient * mask
        if order is None:
            past = weights.tril(-1)
        else:
            rank = order.argsort(-1)
            is_past = (rank.unsqueeze(-2) < rank.unsqueeze(-1)).to(mask.dtype)
            past = weights * (is_past if rank.ndim == 1 else is_past.unsqueeze(1))
        of_before = past.sum(-1) - past.sum(-2)
        of_through = of_before + weights.sum(-2) - weights.sum(-1)
        of_sums = [of_before.double(), (of_through + of_before).double()]
        if order is not None:
            of_sums = [gather_tokens(x, order) for x in of_sums]
        # A gate is in the sums through its token, and in those before and through the later ones.
        of_gates = of_sums[1].flip(-1).cumsum(-1).flip(-1) - of_sums[0]
        if order is not None:
            of_gates = gather_tokens(of_gates, rank)
        return of_gates.sum_to_size(ctx.shape).to(ctx.dtype), None, None


class MaskParts(NamedTuple):
    """Parts of decay masks, which `join_mask` combines to the matrix.

    With b the first token of the block of token i, and e its last one,

        M_ij = exp(before_i - before_b) exp(before_b - before_j)      for j in an earlier block,
        M_ij = exp(through_e - through_i) exp(through_j - through_e)  for j in a later block,

    which is a matrix of rank two per block of rows: a few exp per token, not one per pair. Pairs
    within a block are computed one by one. All differences are taken in float64.

    Args:
        rows: (..., blocks, b, 2), in the order of the scan, as are the rows of all parts.
        columns: (..., blocks, 2, padded L), in the tokens' own order, 0 for the block itself.
        within: (..., blocks, b, b).
        positions: of the columns of `within` in the tokens' own order, of the same shape; None if
            this is the order of the scan.
        rank: position of each token in the scan, (L,) or (B, L); None as above.
    """

    rows: Tensor
    columns: Tensor
    within: Tensor
    positions: Tensor | None = None
    rank: Tensor | None = None

    def of_images(self, images: slice) -> 'MaskParts':
        """Return the parts of some images of the batch."""
        positions, rank = self.positions, self.rank
        return MaskParts(
            self.rows[images],
            self.columns[images],
            self.within[images],
            positions if positions is None else positions[images],
            rank if rank is None or rank.ndim == 1 else rank[images],
        )


def mask_parts(scan: Scan, length: int, dtype: torch.dtype) -> MaskParts:
    """Compute the parts of the masks of a scan over `length` tokens."""
    log_gates, order = scan.log_gates.expand(-1, -1, length), scan.order
    if order is None:
        return _parts_along(log_gates, dtype)
    rows, columns, within, *_ = _parts_along(gather_tokens(log_gates, order), dtype)
    rank = order.argsort(-1)
    padding = torch.arange(length, columns.shape[-1], device=order.device)
    order = torch.cat([order, padding.expand(*order.shape[:-1], -1)], -1)
    if order.ndim > 1:
        order = order.unsqueeze(-2)  # for all heads
    places = order.argsort(-1)[..., None, None, :].expand(*columns.shape[:-1], -1)
    positions = order.unflatten(-1, (columns.shape[-3], 1, MASK_BLOCK)).expand(within.shape)
    return MaskParts(rows, columns.gather(-1, places), within, positions, rank)


def _parts_along(log_gates: Tensor, dtype: torch.dtype) -> MaskParts:
    """Compute the parts of the masks of log gates (..., L) in the order of their scan."""
    length = log_gates.shape[-1]
    blocks = (length + MASK_BLOCK - 1) // MASK_BLOCK
    log_gates = F.pad(log_gates, (0, blocks * MASK_BLOCK - length))
    before, through = cumulative_log_gates(log_gates.unflatten(-1, (blocks, MASK_BLOCK)))
    total = through[..., -1:]
    of_tokens = exp_clamped(torch.stack([before, total - through, total - before, through]), dtype)
    rows, columns = of_tokens[:2].movedim(0, -1), of_tokens[2:].movedim(0, -3)
    before_block, through_block = cumulative_log_gates(total.squeeze(-1))
    past = before_block.unsqueeze(-1) - through_block.unsqueeze(-2)
    future = before_block.unsqueeze(-2) - through_block.unsqueeze(-1)
    past, future = (exp_clamped(x.clamp(max=0), dtype) for x in (past, future))
    between = torch.stack([past.tril(-1), future.triu(1)], -2).unsqueeze(-1)
    columns = (between * columns.unsqueeze(-4)).flatten(-2)
    return MaskParts(rows, columns, mask_from_sums(before, through, dtype))


def join_mask(parts: MaskParts, length: int) -> Tensor:
    """Compute M of `length` tokens, in the tokens' own order, (..., L, L)."""
    rows, columns, within, positions, rank = parts
    mask = rows @ columns  # (..., blocks, b, padded L)
    if positions is None or rank is None:
        mask = mask.unflatten(-1, (-1, MASK_BLOCK))
        mask.diagonal(dim1=-4, dim2=-2).copy_(within.movedim(-3, -1))
        return mask.flatten(-2).flatten(-3, -2)[..., :length, :length]
    mask = mask.scatter_(-1, positions, within).flatten(-3, -2)[..., :length, :length]
    return gather_tokens(mask, rank)


def mask_from_sums(before: Tensor, through: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute M (..., L, L) pair by pair, in the order of the scan, from `cumulative_log_gates`.

    For the tokens of a chunk, which are too few for `mask_parts` to be faster.
    """
    if is_fixed(before.shape[-1]):
        return _Mask.apply(before, through, dtype)
    # A trace with a Python function in it cannot be saved, and torch.compile cannot differentiate
    # one of a symbolic length.
    past = (before.unsqueeze(-1) - before.unsqueeze(-2)).tril()
    future = (through.unsqueeze(-2) - through.unsqueeze(-1)).triu()
    return exp_clamped((past + future).to(dtype), dtype)


class _Mask(torch.autograd.Function):
    """M_ij = exp(before_i - before_j) in the past, exp(through_j - through_i) in the future.

    Sums decrease along the scan, so that the smaller of the two logarithms is the right one. Only M
    is kept for the backward pass, where autograd would keep every intermediate result.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(before: Tensor, through: Tensor, dtype: torch.dtype) -> Tensor:
        from_past = before.unsqueeze(-1) - before.unsqueeze(-2)
        from_future = through.unsqueeze(-2) - through.unsqueeze(-1)
        logs = torch.minimum(from_past, from_future).to(dtype)
        return logs.clamp_(min=MIN_LOG_DECAY[dtype]).exp_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (mask,) = ctx.saved_tensors
        gradient = gradient * mask
        past = gradient.tril()
        future = gradient - past
        of_before = past.sum(-1, dtype=ctx.dtype) - past.sum(-2, dtype=ctx.dtype)
        of_through = future.sum(-2, dtype=ctx.dtype) - future.sum(-1, dtype=ctx.dtype)
        return of_before, of_through, None
