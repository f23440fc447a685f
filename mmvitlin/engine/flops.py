"""Counting a model's multiply-adds: MMEngine's counter, with attention in it.

MMEngine counts one multiply-add as one FLOP, as papers do, and knows matrix products, linear
layers, convolutions and norms. It passes over torch's fused attention, which hides two matrix
products: softmax attention looks cheaper than it is, beside linear attention, whose products are
seen. The handle below closes that.
"""

from collections.abc import Sequence
from math import prod

import torch
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn


def count_attention(inputs: Sequence[torch._C.Value], outputs: Sequence[torch._C.Value]) -> int:
    """Count q k^T and its product with v: (B, H, N, D), (B, H, M, D), (B, H, M, E) in the trace."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    queries, keys = prod(q[:-1]), k[-2]
    return queries * keys * (q[-1] + v[-1])


HANDLES = {'aten::scaled_dot_product_attention': count_attention}


def analyze_flops(model: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> FlopAnalyzer:
    """Trace `model(*inputs)` without gradients, in evaluation mode, and count its multiply-adds.

    Returns:
        MMEngine's analyzer: `total()`, `by_module()`, `by_operator()` and `unsupported_ops()`, the
        operators that were met and not counted.
    """
    model.eval()
    analyzer = FlopAnalyzer(model, inputs).set_op_handle(**HANDLES)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad():
        analyzer.total()
    return analyzer
