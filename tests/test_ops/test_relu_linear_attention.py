"""ReLU linear attention: the fast form is its plain twin, and half precision does not overflow."""

from functools import partial

import pytest
import torch

from mmvitlin.ops.relu_linear_attention import (
    DENOMINATOR_FLOOR,
    relu_linear_attention,
    relu_linear_attention_naive,
)

FORMS = pytest.mark.parametrize(
    'attend', [relu_linear_attention, relu_linear_attention_naive], ids=['fast', 'naive']
)


# Where the floor of the denominator stands -> which denominator of all is brought to which value.
FLOORS = {
    'binds': dict(pick=torch.max, value=0.9 * DENOMINATOR_FLOOR),
    'binds in part': dict(pick=torch.median, value=1.01 * DENOMINATOR_FLOOR),
    'is passed': dict(pick=torch.min, value=1.1 * DENOMINATOR_FLOOR),
}


def draw(tokens, scale=1.0, batch=2, heads=3, width=8):
    """Random q, k, v (B, H, N, D) and a temperature (H, 1, 1), float64, with gradients.

    The first channel of q and k is positive, so that no denominator is 0.
    """
    generator = torch.Generator().manual_seed(tokens)
    randn = partial(torch.randn, generator=generator, dtype=torch.float64)
    q, k, v = (randn(batch, heads, tokens, width) for _ in range(3))
    for x in (q, k):
        x[..., 0].abs_()
    temperature = 0.5 + randn(heads, 1, 1).abs()
    return [x.requires_grad_() for x in (q * scale, k * scale, v, temperature)]


def denominators(q, k):
    """q_i . sum_j k_j before the floor, (B, H, N)."""
    return (q.relu() @ k.relu().transpose(-2, -1)).sum(-1)


def set_denominator(inputs, pick, value):
    """Scale the queries and keys so that the denominator that `pick` finds becomes `value`."""
    with torch.no_grad():
        factor = (value / pick(denominators(*inputs[:2]))).sqrt()
        assert factor.isfinite()
        for x in inputs[:2]:
            x.mul_(factor)


@pytest.mark.parametrize('tokens', [1, 63, 64, 65, 197])
@pytest.mark.parametrize('floor', FLOORS)
def test_outputs_and_gradients_are_those_of_the_naive_form(tokens, floor):
    inputs = draw(tokens)
    set_denominator(inputs, **FLOORS[floor])
    above = denominators(*inputs[:2]) > DENOMINATOR_FLOOR
    assert (above.any().item(), above.all().item()) == {
        'binds': (False, False),
        'binds in part': (True, False),
        'is passed': (True, True),
    }[floor]

    out, expected = relu_linear_attention(*inputs), relu_linear_attention_naive(*inputs)
    assert out.shape == (2, 3, tokens, 8)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad(out, inputs, weight)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, inputs, weight)):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


@FORMS
@pytest.mark.parametrize('floor', FLOORS)
def test_gradients_are_those_of_finite_differences(attend, floor):
    inputs = draw(5, batch=1, heads=2, width=6)
    set_denominator(inputs, **FLOORS[floor])
    assert torch.autograd.gradcheck(attend, inputs)


@FORMS
def test_output_is_an_average_of_v_above_the_floor_and_shrinks_below_it(attend):
    ones = torch.ones(1, 1, 4, 8, dtype=torch.float64)
    temperature = torch.full((1, 1, 1), 0.7, dtype=torch.float64)
    # A denominator is 4 tokens x 8 channels x q x k.
    for product, expected in [(10.0, 0.7), (100 / 32, 0.7), (1.0, 0.7 * 32 / 100), (0.0, 0.0)]:
        out = attend(ones * product, ones, ones, temperature)
        torch.testing.assert_close(out, torch.full_like(out, expected))


@FORMS
def test_each_head_has_its_temperature(attend):
    q, k, v, _ = draw(9)
    temperature = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64).view(3, 1, 1)
    out, unit = attend(q, k, v, temperature), attend(q, k, v, torch.ones_like(temperature))
    torch.testing.assert_close(out, unit * temperature)


@FORMS
def test_negative_queries_and_keys_count_as_zero(attend):
    q, k, v, temperature = draw(9)
    expected = attend(q.relu(), k.relu(), v, temperature)
    torch.testing.assert_close(attend(q, k, v, temperature), expected, rtol=0, atol=0)
    assert not attend(-q.abs(), k, v, temperature).any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
@pytest.mark.parametrize('autocast', [False, True], ids=['plain', 'autocast'])
def test_half_precision_survives_sums_beyond_its_range(dtype, autocast):
    q, k, v, temperature = (x.detach() for x in draw(197, scale=30.0, width=64))
    assert denominators(q, k).min() > 10 * torch.finfo(torch.float16).max
    half = [x.to(dtype).requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().requires_grad_() for x in half]
    expected = relu_linear_attention_naive(*exact, temperature)
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        out = relu_linear_attention(*half, temperature.float())
    assert out.dtype == dtype
    # Nothing but the result is rounded: half a unit in the last place, and float32's share.
    torch.testing.assert_close(
        out.double(), expected, rtol=0.51 * torch.finfo(dtype).eps, atol=1e-6
    )
    weight = torch.randn_like(expected)
    gradients = torch.autograd.grad(out, half, weight.to(dtype))
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, exact, weight)):
        assert gradient.dtype == dtype
        error = (gradient.double() - wanted).norm() / wanted.norm()
        assert error < 4 * torch.finfo(dtype).eps


def test_float32_is_near_float64_over_many_tokens():
    inputs = draw(10_000, scale=3.0, batch=1)
    expected = relu_linear_attention(*inputs)
    out = relu_linear_attention(*(x.float() for x in inputs))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
