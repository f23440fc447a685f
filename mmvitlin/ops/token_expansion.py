"""Token expansion, ToE (arXiv 2404.00672): train a plain ViT on part of its tokens, then on more.

At stage s of K the tokens are reduced to about the keep rate r_s in three steps:

    spread   keep every int(1 // r_0)-th patch token, int(N r_0) of them
    expand   keep the tokens that are least similar to any kept token, a few at a time
    merge    average each kept token with the dropped tokens that are most similar to it

`expand_tokens` runs on a batch without a loop over tokens: for each token it stores the most
similar kept token and its similarity, and compares with newly kept tokens only. Its plain twin,
`expand_tokens_naive`, compares all tokens at every step, image by image.

The numbers of tokens follow the paper's float arithmetic and its rounding.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from mmvitlin.ops.precision import without_autocast


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Compute dot products of normalised tokens: (B, N, C), (B, M, C) -> (B, N, M)."""
    return x @ y.transpose(-2, -1)


def manhattan(x: Tensor, y: Tensor) -> Tensor:
    """Compute sums of absolute differences: (B, N, C), (B, M, C) -> (B, N, M)."""
    return torch.cdist(x, y, p=1.0)


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Compute lengths of differences: (B, N, C), (B, M, C) -> (B, N, M)."""
    return torch.cdist(x, y, p=2.0)


# Similarity of normalised tokens. As in the original, 'manhattan' and 'euclidean' take distances as
# similarities, so that far tokens count as similar: for reproduction only.
DISTANCES = {'cosine': cosine, 'manhattan': manhattan, 'euclidean': euclidean}


def step_sizes(
    num_patches: int,
    stage: int,
    keep_rate: Sequence[float],
    initialization_keep_rate: float,
    expansion_multiple_stage: int,
) -> list[int] | None:
    """Compute the number of tokens kept at each step: by spreading, then by each expansion.

    Returns:
        The numbers, whose sum is the number of kept patch tokens; None if all tokens are kept,
        before the first stage and at a last stage with a keep rate of 1.

    Raises:
        ValueError: a stage that does not exist, or too few tokens to keep one.
    """
    rates, last = [initialization_keep_rate, *keep_rate], len(keep_rate)
    if not 0 <= stage <= last:
        raise ValueError(f'{last} keep rates have the stages 0 to {last}, got stage {stage}')
    if stage == 0 or (stage == last and rates[last] == 1):
        return None
    increments = [rate - before for before, rate in pairwise(rates)]
    counts = [int(num_patches * increment) for increment in increments]
    begun = int(num_patches * (initialization_keep_rate + sum(increments[:-1])))
    counts[-1] = int(num_patches * rates[last]) - begun
    sizes = [int(num_patches * initialization_keep_rate)]
    if sizes[0] < 1:
        raise ValueError(
            f'initialization_keep_rate={initialization_keep_rate} keeps none of {num_patches} '
            'patch tokens to begin with: raise it, or take larger images'
        )
    for count in counts[:stage]:
        few = count // expansion_multiple_stage
        sizes += [few] * (expansion_multiple_stage - 1)
        sizes.append(count - few * (expansion_multiple_stage - 1))
    return sizes


def expand_tokens(
    tokens: Tensor,
    stage: int,
    keep_rate: Sequence[float],
    initialization_keep_rate: float,
    expansion_multiple_stage: int,
    distance: str,
    num_prefix_tokens: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Reduce a sequence to the tokens of a stage.

    Gradients flow through the means, not through the selection. Half precision is compared and
    averaged in float32.

    Args:
        tokens: (B, L, C), `num_prefix_tokens` prefix tokens, which are always kept, then N patches.
        stage: 0 to K; 0 keeps all tokens.
        keep_rate: fraction of patch tokens that each of the K stages keeps, increasing.
        initialization_keep_rate: fraction that is spread evenly at first.
        expansion_multiple_stage: steps in which each stage adds its tokens.
        distance: a key of `DISTANCES`.
        num_prefix_tokens: class and distillation tokens before the patches.

    Returns:
        The tokens (B, L', C), in the order in which they were kept, and their keep indices in the
        input, (B, L') int64; the input itself and None if no token is dropped.
    """
    P = num_prefix_tokens
    patches = tokens[:, P:]
    selected = select_tokens(
        patches, stage, keep_rate, initialization_keep_rate, expansion_multiple_stage, distance
    )
    if selected is None:
        return tokens, None
    kept, slots = selected
    merged = merge_tokens(patches, slots, kept.shape[1])
    prefix = torch.arange(P, device=tokens.device).expand(tokens.shape[0], P)
    return torch.cat((tokens[:, :P], merged), 1), torch.cat((prefix, kept + P), 1)


@torch.no_grad()
def select_tokens(
    patches: Tensor,
    stage: int,
    keep_rate: Sequence[float],
    initialization_keep_rate: float,
    expansion_multiple_stage: int,
    distance: str,
) -> tuple[Tensor, Tensor] | None:
    """Select patch tokens (B, N, C) by spreading and expanding; arguments as of `expand_tokens`.

    Returns:
        The keep indices of K tokens, (B, K), in the order in which they were kept, and for each
        token the slot, 0 to K - 1, of the kept token that it is merged into, (B, N). None if all
        tokens are kept.
    """
    B, N, C = patches.shape
    sizes = step_sizes(N, stage, keep_rate, initialization_keep_rate, expansion_multiple_stage)
    if sizes is None:
        return None
    similarity, spacing = DISTANCES[distance], int(1 // initialization_keep_rate)
    with without_autocast(patches):
        x = F.normalize(patches.to(torch.promote_types(patches.dtype, torch.float32)), dim=-1)
        new = torch.arange(0, sizes[0] * spacing, spacing, device=x.device).expand(B, -1)
        kept = new
        best, slots = similarity(x, x[:, : sizes[0] * spacing : spacing]).max(-1)  # (B, N)
        for size in sizes[1:]:
            best = best.scatter(1, new, torch.inf)  # kept tokens are not selected again
            if size == 0:
                continue
            new = best.topk(size, largest=False).indices  # (B, size), the least similar first
            near, slot = similarity(x, x.gather(1, new[..., None].expand(-1, -1, C))).max(-1)
            slots = torch.where(near > best, slot + kept.shape[1], slots)
            best = torch.maximum(near, best)
            kept = torch.cat((kept, new), 1)
        own = torch.arange(kept.shape[1], device=x.device).expand(B, -1)
    return kept, slots.scatter(1, kept, own)


def merge_tokens(patches: Tensor, slots: Tensor, num_slots: int) -> Tensor:
    """Average the patches (B, N, C) of each slot: slots (B, N) -> (B, num_slots, C)."""
    B, _, C = patches.shape
    dtype = torch.promote_types(patches.dtype, torch.float32)
    rows = (slots + torch.arange(B, device=slots.device)[:, None] * num_slots).flatten()
    sums = patches.new_zeros(B * num_slots, C, dtype=dtype)
    sums = sums.index_add(0, rows, patches.reshape(-1, C).to(dtype))
    counts = sums.new_zeros(B * num_slots).index_add(0, rows, sums.new_ones(rows.shape))
    return (sums / counts[:, None]).view(B, num_slots, C).to(patches.dtype)


def restore_tokens(tokens: Tensor, keep_indices: Tensor, length: int) -> Tensor:
    """Scatter tokens (B, L', C) to their keep indices (B, L') in a sequence of `length` tokens.

    Returns:
        (B, length, C), zero for dropped tokens.
    """
    B, _, C = tokens.shape
    return tokens.new_zeros(B, length, C).scatter(
        1, keep_indices[..., None].expand(-1, -1, C), tokens
    )


def expand_tokens_naive(
    tokens: Tensor,
    stage: int,
    keep_rate: Sequence[float],
    initialization_keep_rate: float,
    expansion_multiple_stage: int,
    distance: str,
    num_prefix_tokens: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Reduce a sequence token by token: the plain twin, same arguments."""
    P = num_prefix_tokens
    N = tokens.shape[1] - P
    sizes = step_sizes(N, stage, keep_rate, initialization_keep_rate, expansion_multiple_stage)
    if sizes is None:
        return tokens, None
    outs, indices = [], []
    for sequence in tokens:
        patches = sequence[P:]
        x = F.normalize(patches.detach(), dim=-1)[None]
        similar = DISTANCES[distance](x, x)[0]  # (N, N)
        kept = list(range(0, N, int(1 // initialization_keep_rate)))[: sizes[0]]
        for size in sizes[1:]:
            rest = [i for i in range(N) if i not in kept]
            kept += sorted(rest, key=lambda i: similar[i, kept].max().item())[:size]
        groups = {i: [patches[i]] for i in kept}
        for i in set(range(N)) - set(kept):
            groups[kept[similar[i, kept].argmax()]].append(patches[i])
        means = [torch.stack(group).mean(0) for group in groups.values()]
        outs.append(torch.cat((sequence[:P], torch.stack(means))))
        indices.append([*range(P), *(i + P for i in kept)])
    return torch.stack(outs), torch.tensor(indices, device=tokens.device)
