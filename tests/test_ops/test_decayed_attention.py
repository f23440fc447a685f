"""The three forms of LION's attention are one equation, for outputs and for all gradients."""

from functools import partial

import pytest
import torch

from mmvitlin.ops.decayed_attention import (
    Scan,
    blocked_chunk_form,
    blocked_naive_form,
    blocking,
    chunk_form,
    decay_mask,
    decayed_attention,
    naive_form,
    recurrent_form,
)

LENGTHS = (1, 2, 5, 63, 64, 65, 127, 197, 1000)
FORMS = {
    'Attention': naive_form,
    'RNN': recurrent_form,
    'chunks of 1': partial(chunk_form, chunk_size=1),
    'chunks of 16': partial(chunk_form, chunk_size=16),
    'chunks of 64': partial(chunk_form, chunk_size=64),
    'a chunk longer than L': partial(chunk_form, chunk_size=2048),
}
GATES = ('none', 'of heads', 'of tokens')
ALL_FORMS = pytest.mark.parametrize('form', FORMS.values(), ids=FORMS)


def naive(q, k, v, scans):
    """The equation, one pair of tokens after another; scans in the tokens' own order."""
    B, H, L, _ = q.shape
    out = torch.zeros_like(v)
    masks = [torch.ones(B, H, L, L, dtype=q.dtype) for _ in scans] or [torch.ones(1, 1, L, L)]
    for mask, (log_gates, _) in zip(masks, scans):
        gates = log_gates.exp().expand(B, H, L)
        for i in range(L):
            for j in range(L):
                between = gates[..., j:i] if j < i else gates[..., i + 1 : j + 1]
                mask[..., i, j] = between.prod(-1)
    weights = sum(masks) * (q @ k.transpose(-2, -1))
    for i in range(L):
        out[:, :, i] = (weights[:, :, i, :, None] * v).sum(2) / weights[:, :, i].sum(-1)[..., None]
    return out


def draw(length, gates='of tokens', batch=2, heads=2, width=4, dtype=torch.float64, seed=0):
    """Random positive q, k, any v, and the logarithms of gates between 1e-30 and 1."""
    rand = partial(torch.rand, generator=torch.Generator().manual_seed(seed + length))
    shape = (batch, heads, length, width)
    q, k, v = (0.1 + rand(shape, dtype=torch.float64) for _ in range(3))
    shape = {'none': None, 'of heads': (1, heads, 1), 'of tokens': (batch, heads, length)}[gates]
    inputs = [q, k, v - 0.6]
    if shape:
        spread = 10 ** -rand(shape, dtype=torch.float64).mul(3).exp2()  # 0.1 to 1e-8
        extremes = rand(shape, dtype=torch.float64)
        gate = torch.where(extremes < 0.1, 1e-30, torch.where(extremes > 0.5, 1 - spread, spread))
        inputs.append(gate.log())
    return [x.to(dtype).requires_grad_() for x in inputs]


def attend(inputs, form, order=None):
    *qkv, log_gates = inputs if len(inputs) == 4 else (*inputs, None)
    scans = [] if log_gates is None else [Scan(log_gates, order)]
    return decayed_attention(*qkv, scans, form)


def outputs_and_gradients(inputs, form, order=None):
    out = attend(inputs, form, order)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out).sin()
    gradients = torch.autograd.grad(out, inputs, weight, allow_unused=True)
    return [out, *(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients))]


# The equation


@pytest.mark.parametrize('gates', GATES)
@pytest.mark.parametrize('length', [1, 2, 7])
@ALL_FORMS
def test_every_form_is_the_equation(form, length, gates):
    inputs = draw(length, gates)
    q, k, v, *log_gates = (x.detach() for x in inputs)
    expected = naive(q, k, v, [Scan(g) for g in log_gates])
    torch.testing.assert_close(attend(inputs, form), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('gates', GATES)
@pytest.mark.parametrize('length', LENGTHS)
def test_forms_agree_in_outputs_and_all_gradients(length, gates):
    inputs = draw(length, gates, batch=1 if length > 500 else 2)
    expected = outputs_and_gradients(inputs, naive_form)
    for name, form in FORMS.items():
        found = outputs_and_gradients(inputs, form)
        for what, one, other in zip(('output', 'q', 'k', 'v', 'gates'), found, expected):
            # Differences count beside the largest value, or beside 1 where all are next to nothing.
            scale = other.abs().max().clamp(min=1)
            assert (one - other).abs().max() / scale <= 1e-9, (name, what)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('per_image', [False, True], ids=['one order', 'an order each'])
def test_forms_agree_over_several_scans(batch, per_image):
    q, k, v, first = draw(33, batch=batch)
    second = draw(33, 'of heads', batch=batch)[-1]
    third = draw(33, batch=batch, seed=1)[-1]
    shape = (batch, 33) if per_image else (33,)
    orders = [
        torch.rand(shape, generator=torch.Generator().manual_seed(i)).argsort(-1) for i in (0, 1)
    ]
    scans = [Scan(first, orders[0]), Scan(second, orders[1]), Scan(third)]
    inputs, results = [q, k, v, first, second, third], []
    for form in FORMS.values():
        out = decayed_attention(q, k, v, scans, form)
        results.append([out, *torch.autograd.grad(out.sin().sum(), inputs)])
    for found in results[1:]:
        torch.testing.assert_close(found, results[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('gates', GATES[1:])
@pytest.mark.parametrize(
    ('limit', 'expected_blocks'),
    [(98, [(3, 16), (3, 16), (3, 1)]), (99, [(3, 33), (3, 33)]), (140, [(4, 33), (2, 33)])],
    ids=['of tokens', 'of an image', 'of heads'],
)
def test_blocks_of_many_tokens_change_no_number(gates, limit, expected_blocks, monkeypatch):
    inputs = draw(33, gates, heads=3)
    form = partial(blocked_chunk_form, chunk_size=4)
    expected = outputs_and_gradients(inputs, partial(chunk_form, chunk_size=4))
    monkeypatch.setattr(blocking, 'CPU_BLOCK_TOKENS', limit)
    monkeypatch.setattr(blocking, 'CPU_LONG_BLOCK_TOKENS', 1)  # blocks of four chunks
    blocks = []
    sum_over_chunks = blocking.sum_over_chunks
    monkeypatch.setattr(
        blocking,
        'sum_over_chunks',
        lambda *args: blocks.append(args[0].shape[1:3]) or sum_over_chunks(*args),
    )
    found = outputs_and_gradients(inputs, form)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert blocks == expected_blocks
    with torch.no_grad():
        torch.testing.assert_close(attend(inputs, form), expected[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', ['Attention', 'RNN', 'chunks of 1', 'chunks of 16'])
@pytest.mark.parametrize('gates', GATES)
def test_gradients_are_those_of_the_outputs(name, gates):
    q, k, v, *log_gates = draw(19, gates, batch=1, heads=1, width=2)
    log_gates = [g.detach().clamp(min=-3).requires_grad_() for g in log_gates]
    torch.autograd.gradcheck(
        lambda *inputs: attend(inputs, FORMS[name]), (q, k, v, *log_gates), atol=1e-6
    )


@pytest.mark.parametrize('gates', [*GATES, 'mixed'])
@pytest.mark.parametrize('per_image', [False, True], ids=['one order', 'an order each'])
def test_blocks_of_images_change_no_number(gates, per_image, monkeypatch):
    q, k, v, *log_gates = (
        x.detach() for x in draw(21, 'of tokens' if gates == 'mixed' else gates, batch=5)
    )
    order = torch.rand(5, 21) if per_image else torch.rand(21)
    scans = [Scan(g, order.argsort(-1)) for g in log_gates]
    if gates == 'mixed':
        scans.append(Scan(draw(21, 'of heads')[-1].detach()))
    expected = decayed_attention(q, k, v, scans, naive_form)
    blocks = []
    sum_over_pairs = blocking.sum_over_pairs
    monkeypatch.setattr(
        blocking,
        'sum_over_pairs',
        lambda *args: blocks.append(len(args[0])) or sum_over_pairs(*args),
    )
    monkeypatch.setattr(blocking, 'CPU_BLOCK_PAIRS', 2 * 2 * 21**2)  # two images
    with torch.no_grad():
        found = decayed_attention(q, k, v, scans, blocked_naive_form)
    assert blocks == [2, 2, 1]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# Claims


@ALL_FORMS
def test_a_mask_of_ones_is_no_decay(form):
    q, k, v = draw(37, 'none')
    ones = Scan(torch.zeros(2, 2, 37, dtype=torch.float64))
    torch.testing.assert_close(
        decayed_attention(q, k, v, [ones], form), decayed_attention(q, k, v, [], naive_form)
    )


@ALL_FORMS
def test_reversing_the_sequence_reverses_the_output(form):
    inputs = draw(37)
    backwards = attend([x.flip(2) for x in inputs], form).flip(2)
    torch.testing.assert_close(backwards, attend(inputs, form), rtol=1e-10, atol=1e-10)


@ALL_FORMS
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=['float32', 'float64'])
def test_gates_of_zero_isolate_tokens(form, dtype):
    q, k, v, log_gates = draw(37, dtype=dtype)
    out = decayed_attention(q, k, v, [Scan(torch.full_like(log_gates, -torch.inf))], form)
    torch.testing.assert_close(out, v)


@ALL_FORMS
def test_a_token_is_discounted_by_its_own_gate_and_those_between_never_the_targets(form):
    q, k, v, _ = draw(3, batch=1, heads=1)
    gates = torch.tensor([[[0.5, 0.25, 0.125]]], dtype=torch.float64)
    mask = torch.tensor([[1, 0.25, 0.03125], [0.5, 1, 0.125], [0.125, 0.25, 1]]).double()
    torch.testing.assert_close(decay_mask(Scan(gates.log()), 3, torch.float64)[0, 0], mask)
    weights = mask * (q @ k.transpose(-2, -1))
    expected = weights @ v / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(decayed_attention(q, k, v, [Scan(gates.log())], form), expected)


@ALL_FORMS
def test_an_order_is_the_same_as_reordered_tokens(form):
    inputs = draw(37)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    expected = attend([x[:, :, order] for x in inputs], form)[:, :, order.argsort()]
    torch.testing.assert_close(attend(inputs, form, order), expected)


def test_the_mask_of_an_order_stands_in_the_tokens_own_order():
    log_gates = draw(6)[-1]
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    along = decay_mask(Scan(log_gates[:, :, order]), 6, torch.float64)
    mask = decay_mask(Scan(log_gates, order), 6, torch.float64)
    torch.testing.assert_close(mask[:, :, order][..., order], along)


@ALL_FORMS
def test_images_of_a_batch_do_not_see_each_other(form):
    inputs = draw(37)
    alone = [attend([x[i : i + 1] for x in inputs], form) for i in range(2)]
    torch.testing.assert_close(attend(inputs, form), torch.cat(alone), rtol=1e-12, atol=1e-12)


# Precision


@pytest.mark.parametrize('length', [65, 1000])
@ALL_FORMS
def test_float32_keeps_its_digits_among_the_smallest_gates(form, length):
    inputs = draw(length, batch=1, dtype=torch.float32)
    found = outputs_and_gradients(inputs, form)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = outputs_and_gradients(wide, naive_form)
    for one, other in zip(found, expected):
        assert ((one - other).abs().max() / other.abs().max()).item() < 1e-5


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
@ALL_FORMS
def test_half_precision_is_summed_in_float32(form, dtype):
    q, k, v, log_gates = draw(197, dtype=dtype)
    scans = [Scan(log_gates.float())]
    out = decayed_attention(q, k, v, scans, form)
    expected = decayed_attention(q.float(), k.float(), v.float(), scans, form)
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))


def test_a_very_long_sequence_stays_finite():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.rand(1, 1, 65536, 4, generator=generator) for _ in range(3))
    log_gates = torch.rand(1, 1, 65536, generator=generator).log() * 30
    inputs = [x.requires_grad_() for x in (q, k, v, log_gates)]
    out = attend(inputs, chunk_form)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(x.grad.isfinite().all() for x in inputs)


def test_features_that_all_underflow_give_zero():
    q, k, v = (torch.zeros(1, 1, 3, 2) for _ in range(3))
    assert torch.equal(decayed_attention(q, k, v + 1, [], naive_form), v)


def test_no_form_keeps_a_matrix_of_all_pairs_but_the_equation():
    """The memory that the chunk form keeps for the backward pass is linear in L."""

    def kept(length, form):
        sizes = []
        inputs = draw(length, batch=1, heads=1, dtype=torch.float32)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: sizes.append(x.numel()) or x, lambda x: x
        ):
            attend(inputs, form)
        return sum(sizes)

    assert kept(2048, chunk_form) < 2.2 * kept(1024, chunk_form)
    assert kept(2048, naive_form) > 3.5 * kept(1024, naive_form)


@pytest.mark.parametrize('form', [naive_form, partial(chunk_form, chunk_size=4)])
def test_a_compiled_form_of_symbolic_length_has_the_same_gradients(form):
    def gradients(run, length):
        q, k, v, log_gates = (x.requires_grad_() for x in draw(length))
        run(q, k, v, [Scan(log_gates, torch.arange(length).flip(0))]).sin().sum().backward()
        return [x.grad for x in (q, k, v, log_gates)]

    torch._dynamo.reset()
    compiled = torch.compile(
        partial(decayed_attention, form=form), backend='aot_eager', fullgraph=True, dynamic=True
    )
    for length in (9, 14):
        eager = gradients(partial(decayed_attention, form=form), length)
        for found, expected in zip(gradients(compiled, length), eager, strict=True):
            torch.testing.assert_close(found, expected)
