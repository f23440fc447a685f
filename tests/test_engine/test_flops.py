"""Multiply-adds are those that one counts by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmvitlin.engine.flops import analyze_flops
from mmvitlin.layers.linear import Linear
from mmvitlin.layers.linear_attention import LinearAttention
from mmvitlin.layers.window_attention import WindowAttention
from mmvitlin.models import L2ViT

C, HEADS = 12, 3
D = C // HEADS


def test_softmax_attention_counts_both_of_its_products():
    """Queries, keys and values of different lengths and widths."""

    class Attention(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v)

    q, k, v = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 6)
    flops = analyze_flops(Attention(), (q, k, v))
    assert flops.total() == 2 * 3 * (5 * 4 * 7 + 5 * 7 * 6)


def test_window_attention_counts_its_windows_and_their_padding():
    flops = analyze_flops(WindowAttention(C, HEADS, window_size=4), torch.randn(2, 7, 9, C))
    windows, tokens = 2 * 2 * 3, 16
    assert flops.by_operator()['scaled_dot_product_attention'] == windows * HEADS * (
        2 * tokens * tokens * D
    )
    assert flops.total() == windows * tokens * (4 * C * C + HEADS * 2 * tokens * D)


def test_linear_attention_counts_its_three_products():
    tokens = 2 * 7 * 9
    flops = analyze_flops(LinearAttention(C, HEADS), torch.randn(2, 7, 9, C))
    # k^T v, then q times that and times the sum of k
    assert flops.by_operator()['matmul'] == tokens * HEADS * (2 * D * D + D)
    assert flops.total() == tokens * (4 * C * C + HEADS * (2 * D * D + D))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['as convolution', 'plain'])
def test_a_linear_layer_counts_once(dtype):
    layer = Linear(5, 7).to(dtype)
    assert analyze_flops(layer, torch.randn(2, 3, 5, dtype=dtype)).total() == 2 * 3 * 5 * 7


@pytest.mark.parametrize(
    ('arch', 'size', 'published'),
    [('tiny', 224, 4.7), ('small', 224, 9.0), ('base', 224, 15.9), ('base', 384, 47.5)],
)
def test_l2vit_counts_what_its_paper_says(arch, size, published):
    model = L2ViT(arch, window_size=7 if size == 224 else 12)
    flops = analyze_flops(model, torch.zeros(1, 3, size, size)).total()
    assert flops / 1e9 == pytest.approx(published, rel=0.02)


def test_stochastic_depth_changes_no_count():
    arch = dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4)
    totals = {
        analyze_flops(L2ViT(arch, drop_path_rate=r), torch.randn(1, 3, 32, 32)).total()
        for r in (0.0, 0.9)
    }
    assert len(totals) == 1
