"""Window attention is softmax attention in each window, zero-padded tokens included."""

import pytest
import torch

from mmvitlin.layers.window_attention import WindowAttention

SIZES = pytest.mark.parametrize(
    ('height', 'width'), [(4, 8), (1, 1), (5, 3), (7, 9)], ids=lambda value: str(value)
)


def build(window_size=4):
    return WindowAttention(6, num_heads=2, window_size=window_size).double()


def attend_naively(layer, x):
    """The same with loops and explicit scores: images, windows, heads."""
    B, H, W, C = x.shape
    size, heads = layer.window_size, layer.num_heads
    rows, columns = -(-H // size), -(-W // size)
    padded = x.new_zeros(B, rows * size, columns * size, C)
    padded[:, :H, :W] = x
    out = torch.zeros_like(padded)
    for image in range(B):
        for row in range(rows):
            for column in range(columns):
                at = (
                    image,
                    slice(row * size, row * size + size),
                    slice(column * size, column * size + size),
                )
                qkv = padded[at].reshape(size * size, C) @ layer.qkv.weight.T + layer.qkv.bias
                q, k, v = qkv.view(size * size, 3, heads, C // heads).permute(1, 2, 0, 3)
                scores = (q @ k.transpose(-2, -1) * (C // heads) ** -0.5).softmax(-1)
                joined = (scores @ v).transpose(0, 1).reshape(size * size, C)
                out[at] = (joined @ layer.proj.weight.T + layer.proj.bias).view(size, size, C)
    return out[:, :H, :W]


@SIZES
def test_outputs_and_gradients_are_those_of_loops_over_windows(height, width):
    layer = build()
    x = torch.randn(2, height, width, 6, dtype=torch.double, requires_grad=True)
    out, expected = layer(x), attend_naively(layer, x)
    torch.testing.assert_close(out, expected)
    inputs, weight = [x, *layer.parameters()], torch.randn_like(out)
    gradients = torch.autograd.grad(out, inputs, weight)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, inputs, weight)):
        torch.testing.assert_close(gradient, wanted)


def test_padded_tokens_take_part():
    """One token in a window of 16 sees fifteen tokens of zeros, and itself as one of sixteen."""
    layer = build()
    with torch.no_grad():
        layer.qkv.bias.zero_()
        layer.qkv.weight[:12].zero_()  # queries and keys: every score is equal
        token = torch.randn(1, 1, 1, 6, dtype=torch.double)
        value = token @ layer.qkv.weight[12:].T
        expected = value / 16 @ layer.proj.weight.T + layer.proj.bias
        torch.testing.assert_close(layer(token), expected)


def test_windows_do_not_see_each_other():
    layer = build()
    x = torch.randn(1, 8, 8, 6, dtype=torch.double)
    changed = x.clone()
    changed[:, :4, 4:] += 1
    differs = (layer(x) - layer(changed)).abs().amax((0, 3)) > 1e-9
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:4, 4:] = True
    assert torch.equal(differs, expected)


def test_a_token_does_not_know_its_place_in_the_window():
    layer = build()
    x = torch.randn(1, 4, 4, 6, dtype=torch.double)
    order = torch.randperm(16)

    def shuffle(x):
        return x.flatten(1, 2)[:, order].view_as(x)

    torch.testing.assert_close(layer(shuffle(x)), shuffle(layer(x)))
