"""Cache blocking on CPUs: rows that are independent of each other are computed in blocks.

The intermediate results of a block stay in the cache, or at least in memory that the allocator
keeps: glibc returns allocations of 32 MiB and more to the system when they are freed, and the next
one pays for each of its pages again.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmvitlin.ops.symbolic import is_captured

BLOCK_ELEMENTS = 1024 * 1024  # of the largest intermediate result, per thread: 4 MiB in float32


def block_elements() -> int:
    """Return the elements of the largest intermediate result of a block, on all threads."""
    return BLOCK_ELEMENTS * torch.get_num_threads()


def uses_blocks(x: Tensor) -> bool:
    """Return whether x is computed in blocks: on a CPU, if no gradient and no graph is recorded.

    With gradients, the intermediate results are kept, so that blocks would save nothing.
    """
    return x.device.type == 'cpu' and not torch.is_grad_enabled() and not is_captured()


def compute_in_blocks(
    function: Callable[[Tensor], Tensor], x: Tensor, elements_per_row: int
) -> Tensor:
    """Compute `function(x)`, in blocks of rows where `uses_blocks`.

    Args:
        function: maps rows (N, ...) to rows (N, ...), each independently of the others.
        x: rows, (N, ...).
        elements_per_row: elements of the largest intermediate result of a row.
    """
    if not uses_blocks(x):
        return function(x)
    rows = max(block_elements() // elements_per_row, 1)
    if x.shape[0] <= rows:
        return function(x)
    blocks = x.tensor_split((x.shape[0] + rows - 1) // rows)
    return torch.cat([function(block) for block in blocks])
