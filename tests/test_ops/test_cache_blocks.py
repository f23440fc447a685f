"""Tests of cache blocking on CPUs."""

import pytest
import torch
from torch import nn

from mmvitlin.layers import LinearAttention, WindowAttention
from mmvitlin.layers.mlp import MLP
from mmvitlin.ops import cache_blocks

LAYERS = {  # layer, its linear layer that is called per block, blocks of a map of 2 x 6 x 6
    'mlp': (lambda: MLP(8, 16), 'fc1', 18),
    'windows': (lambda: WindowAttention(8, 2, window_size=3), 'qkv', 8),
    'linear attention': (lambda: LinearAttention(8, 2), 'qkv', 2),
}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    monkeypatch.setattr(cache_blocks, 'BLOCK_ELEMENTS', 64)


@pytest.mark.parametrize('name', LAYERS)
def test_blocks_change_no_number(name, small_blocks):
    make, linear, blocks = LAYERS[name]
    layer, x, calls = make(), torch.randn(2, 6, 6, 8), []
    layer.get_submodule(linear).register_forward_hook(lambda *_: calls.append(1))
    whole = layer(x)
    assert len(calls) == 1, 'gradients are recorded: no blocks'
    with torch.no_grad():
        torch.testing.assert_close(layer(x), whole, rtol=1e-5, atol=1e-6)
    assert len(calls) == 1 + blocks


def test_the_last_block_may_be_shorter(small_blocks):
    linear = nn.Linear(5, 5)
    with torch.no_grad():
        for rows in (1, 12, 13, 25, 26):
            x = torch.randn(rows, 5)
            out = cache_blocks.compute_in_blocks(linear, x, elements_per_row=5)
            torch.testing.assert_close(out, linear(x), rtol=1e-5, atol=1e-6)


def test_a_row_larger_than_a_block_is_a_block(small_blocks):
    lengths = []
    with torch.no_grad():
        cache_blocks.compute_in_blocks(
            lambda x: lengths.append(len(x)) or x, torch.randn(3, 2), elements_per_row=100
        )
    assert lengths == [1, 1, 1]
