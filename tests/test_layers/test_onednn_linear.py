"""OneDNNLinear is `nn.Linear` in everything but time, for any model that asks for it."""

import pytest
import torch
from torch import nn

from mmvitlin.layers.onednn_linear import OneDNNLinear, use_onednn_linears

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
    ours, plain = (
        OneDNNLinear(6, 10, bias=bias, dtype=dtype),
        nn.Linear(6, 10, bias=bias, dtype=dtype),
    )
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


def test_input_of_another_width_is_refused_even_where_the_elements_would_fit():
    """(3, 4) holds two tokens of width 6: reading it so would be a silent mistake."""
    ours, _ = twins()
    with pytest.raises(RuntimeError):
        ours(torch.randn(3, 4))


class Custom(nn.Linear):
    """A subclass with other behaviour."""


def test_every_plain_linear_of_a_model_is_changed_and_no_other():
    model = nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.Linear(8, 8), Custom(8, 4)))
    x, names = torch.randn(2, 5, 6), list(model.state_dict())
    expected = model(x)
    assert use_onednn_linears(model) is model
    assert type(model[0]) is type(model[1][0]) is OneDNNLinear
    assert type(model[1][1]) is Custom
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(x), expected)


def test_a_hosts_model_runs_on_it():
    from mmpretrain.models import VisionTransformer

    arch = dict(embed_dims=12, num_layers=1, num_heads=2, feedforward_channels=16)
    model = VisionTransformer(arch, img_size=16, patch_size=8)
    images = torch.randn(2, 3, 16, 16)
    expected = model(images)
    use_onednn_linears(model)
    with torch.profiler.profile() as profile:
        outs = model(images)
    torch.testing.assert_close(outs, expected)
    convolutions = sum(e.count for e in profile.key_averages() if e.key == 'aten::conv2d')
    assert convolutions == 1 + sum(type(m) is OneDNNLinear for m in model.modules()) > 2


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['float32', 'float64'])
def test_captured_graphs_hold_a_plain_linear(dtype):
    ours, _ = twins(dtype=dtype)
    x = torch.randn(2, 5, 6, dtype=dtype)
    traced = torch.jit.trace(ours, x)
    exported = torch.export.export(ours, (x,), dynamic_shapes=({0: torch.export.Dim('b')},))
    assert 'aten::linear' in str(traced.inlined_graph)
    assert 'aten.linear' in exported.graph_module.code
    for batch in (1, 3):
        x = torch.randn(batch, 5, 6, dtype=dtype)
        torch.testing.assert_close(traced(x), ours(x))
        torch.testing.assert_close(exported.module()(x), ours(x))


def test_double_backward_is_that_of_nn_linear():
    ours, plain = twins()
    x = torch.randn(4, 6, requires_grad=True)
    seconds = []
    for layer in (ours, plain):
        (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*seconds)
