"""The faster linear layer is `nn.Linear` in everything but time."""

import pytest
import torch
from torch import nn

from mmvitlin.layers.linear import Linear

INPUTS = {
    'vector': lambda: torch.randn(6),
    'matrix': lambda: torch.randn(5, 6),
    'tokens': lambda: torch.randn(2, 7, 6),
    'map': lambda: torch.randn(2, 3, 5, 6),
    'windows': lambda: torch.randn(2, 3, 2, 5, 6),
    'one token': lambda: torch.randn(1, 1, 6),
    'channels first in memory': lambda: torch.randn(2, 6, 3, 5).permute(0, 2, 3, 1),
    'transposed': lambda: torch.randn(6, 5).t(),
    'sliced': lambda: torch.randn(4, 9, 12)[::2, 1:, 3:9],
    'expanded': lambda: torch.randn(1, 6).expand(4, 6),
    'empty': lambda: torch.randn(0, 5, 6),
}
DTYPES = pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.bfloat16], ids=['float32', 'float64', 'bfloat16']
)


def twins(bias=True, dtype=torch.float32):
    """Ours and torch's with the same weights, loaded strictly."""
    ours, plain = Linear(6, 10, bias=bias, dtype=dtype), nn.Linear(6, 10, bias=bias, dtype=dtype)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return ours, plain


@pytest.mark.parametrize('kind', INPUTS)
@pytest.mark.parametrize('bias', [True, False], ids=['bias', 'no bias'])
@DTYPES
def test_outputs_and_gradients_are_those_of_nn_linear(kind, bias, dtype):
    ours, plain = twins(bias, dtype)
    x = INPUTS[kind]().to(dtype).requires_grad_()
    out, expected = ours(x), plain(x)
    assert out.dtype == expected.dtype
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(expected)
    gradients = torch.autograd.grad(out, [x, *ours.parameters()], weight)
    wanted = torch.autograd.grad(expected, [x, *plain.parameters()], weight)
    for gradient, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, other)


@DTYPES
def test_autocast_computes_in_half_precision(dtype):
    ours, plain = twins()
    x = torch.randn(3, 5, 6).to(dtype if dtype != torch.float64 else torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out, expected = ours(x), plain(x)
    assert out.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected)


def test_checkpoints_are_those_of_nn_linear():
    ours, plain = twins()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        'weight': (10, 6),
        'bias': (10,),
    }
    plain.load_state_dict(ours.state_dict(), strict=True)
    assert isinstance(ours, nn.Linear)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['float32', 'float64'])
def test_wrong_input_is_refused(dtype):
    ours, _ = twins(dtype=dtype)
    with pytest.raises(RuntimeError):
        ours(torch.randn(2, 5, dtype=dtype))


def test_input_of_another_width_is_refused_even_where_the_elements_would_fit():
    """(3, 4) holds two tokens of width 6: reading it so would be a silent mistake."""
    ours, _ = twins()
    with pytest.raises(RuntimeError):
        ours(torch.randn(3, 4))


def test_double_backward_is_that_of_nn_linear():
    ours, plain = twins()
    x = torch.randn(4, 6, requires_grad=True)
    seconds = []
    for layer in (ours, plain):
        (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*seconds)
