"""A depthwise convolution on channels-last maps is torch's on channels-first ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmvitlin.layers.conditional_position_encoding import ConditionalPositionEncoding
from mmvitlin.layers.depthwise_conv import DepthwiseConv
from mmvitlin.ops import cache_blocks, depthwise_conv


@pytest.mark.parametrize('kernel_size', [1, 3, 7])
@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 9), (8, 8)], ids=lambda v: str(v))
def test_outputs_and_gradients_are_those_of_a_grouped_convolution(kernel_size, height, width):
    conv = DepthwiseConv(6, kernel_size).double()
    assert conv.weight.shape == (6, 1, kernel_size, kernel_size)
    x = torch.randn(2, height, width, 6, dtype=torch.double, requires_grad=True)
    out = conv(x)
    assert out.shape == x.shape
    # One channel at a time, each with its own kernel.
    padded = F.pad(x.permute(3, 0, 1, 2), [kernel_size // 2] * 4)  # (C, B, H, W)
    expected = torch.stack(
        [
            F.conv2d(channel[:, None], conv.weight[c : c + 1])[:, 0] + conv.bias[c]
            for c, channel in enumerate(padded)
        ],
        dim=-1,
    )
    torch.testing.assert_close(out, expected)
    inputs, weight = [x, *conv.parameters()], torch.randn_like(out)
    gradients = torch.autograd.grad(out, inputs, weight)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, inputs, weight)):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize('kernel_size', [5, 7, 9])
@pytest.mark.parametrize(('height', 'width'), [(1, 1), (2, 9), (8, 3)], ids=lambda v: str(v))
def test_gradients_in_parts_are_the_whole(kernel_size, height, width):
    """In float32, whose weight gradient is computed in parts, and gradients of gradients."""
    conv = DepthwiseConv(6, kernel_size)
    x = torch.randn(2, height, width, 6, requires_grad=True)
    plain = F.conv2d(
        x.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=kernel_size // 2, groups=6
    )
    results = []
    for out in (conv(x), plain.permute(0, 2, 3, 1)):
        inputs = [x, *conv.parameters()]
        gradients = torch.autograd.grad(out.sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in gradients), inputs)
        results.append([out, *gradients, *second])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_blocks_of_channels_change_no_number(monkeypatch):
    conv, x = DepthwiseConv(40, 7), torch.randn(2, 6, 5, 40)
    conv(x).square().sum().backward()
    whole, lengths = conv.weight.grad.clone(), []
    in_parts = depthwise_conv.weight_gradient_in_parts
    monkeypatch.setattr(cache_blocks, 'BLOCK_ELEMENTS', 1)
    monkeypatch.setattr(
        depthwise_conv,
        'weight_gradient_in_parts',
        lambda x, *args: lengths.append(x.shape[-1]) or in_parts(x, *args),
    )
    conv.zero_grad()
    conv(x).square().sum().backward()
    assert lengths == [16, 16, 8]
    torch.testing.assert_close(conv.weight.grad, whole, rtol=1e-4, atol=1e-4)


def test_gradients_in_parts_stay_in_the_dtype_of_autocast():
    conv = DepthwiseConv(6, 7)
    x = torch.randn(2, 5, 4, 6, requires_grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        out = conv(x)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert x.grad.dtype == conv.weight.grad.dtype == torch.float32
    expected = torch.autograd.grad(conv(x).sum(), conv.weight)[0]
    torch.testing.assert_close(conv.weight.grad, expected, rtol=0.05, atol=0.05)


def test_a_contiguous_map_goes_in_and_comes_out_without_a_copy():
    conv = DepthwiseConv(6, 3)
    seen = []
    x = torch.randn(2, 5, 4, 6)

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is F.conv2d or func is torch.conv2d:
                seen.append(args[0])
            return func(*args, **(kwargs or {}))

    with Spy():
        out = conv(x)
    assert [tensor.data_ptr() for tensor in seen] == [x.data_ptr()]
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert out.is_contiguous()


def test_maps_of_any_layout_give_the_same():
    conv = DepthwiseConv(6, 3)
    x = torch.randn(2, 5, 4, 6)
    for view in (
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        torch.cat([x, x], -1)[..., :6],
    ):
        assert not view.is_contiguous()
        torch.testing.assert_close(conv(view), conv(x))


def test_checkpoints_are_those_of_a_grouped_convolution():
    plain = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    conv = DepthwiseConv(6, 3)
    conv.load_state_dict(plain.state_dict(), strict=True)
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(conv(x), plain(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


def test_conditional_position_encoding_adds_the_convolution():
    position = ConditionalPositionEncoding(6)
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(position(x), x + position.conv(x))
    with torch.no_grad():
        position.conv.weight.zero_()
        position.conv.bias.zero_()
    assert torch.equal(position(x), x)


@pytest.mark.parametrize('kernel_size', [3, 7])
def test_the_gradient_has_the_strides_of_the_weight(kernel_size):
    """Data parallel training warns of other strides, and copies each gradient into its bucket."""
    conv = DepthwiseConv(6, kernel_size)
    conv(torch.randn(2, 8, 8, 6)).sum().backward()
    assert conv.weight.grad.stride() == conv.weight.stride()
