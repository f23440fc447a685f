"""Token expansion: the original's numbers, the plain twin's, and invariances."""

from functools import partial

import pytest
import torch
from goldens import load_meta, load_outputs, relative_error, standard_normal

from mmvitlin.ops.token_expansion import (
    DISTANCES,
    expand_tokens,
    expand_tokens_naive,
    restore_tokens,
    select_tokens,
    step_sizes,
)

DEFAULTS = dict(
    keep_rate=(0.5, 0.75, 1.0),
    initialization_keep_rate=0.25,
    expansion_multiple_stage=2,
    distance='cosine',
)
FORMS = pytest.mark.parametrize(
    'expand', [expand_tokens, expand_tokens_naive], ids=['fast', 'naive']
)
CASES = load_meta('toe_select')['cases']


def draw(length, batch=2, width=16, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, width, generator=generator, dtype=dtype)
    return tokens.requires_grad_()


@FORMS
@pytest.mark.parametrize('stage', [1, 2, 3])
@pytest.mark.parametrize('number', range(len(CASES)))
def test_tokens_and_positions_are_the_originals(number, stage, expand):
    case, outputs = CASES[number], load_outputs('toe_select')
    settings = {key: value for key, value in case['toe'].items() if key != 'expansion_step'}
    tokens = standard_normal(case['input_shape'], case['input_seed']).float()
    out, index = expand(tokens, stage, **settings)
    assert relative_error(out, outputs[f'case{number}_stage{stage}_tokens']) < 1e-5
    expected = outputs.get(f'case{number}_stage{stage}_index')
    if expected is None:
        assert index is None
    else:
        assert torch.equal(index, expected)


@pytest.mark.parametrize(
    ('keep_rate', 'first', 'lengths'),
    [
        ((0.5, 0.75, 1.0), 0.25, [197, 99, 148, 197]),
        ((0.4, 0.7, 1.0), 0.2, [197, 79, 137, 197]),
        ((0.6, 0.8, 1.0), 0.3, [197, 117, 156, 197]),
    ],
)
def test_lengths_are_those_of_the_paper(keep_rate, first, lengths):
    tokens = torch.randn(1, 197, 8)
    outs = [expand_tokens(tokens, stage, keep_rate, first, 2, 'cosine') for stage in range(4)]
    assert [out.shape[1] for out, _ in outs] == lengths


def test_counts_are_truncated_as_floats_are():
    """100 x (0.6 - 0.5) is 9.99..., and the last stage makes up for it."""
    rates = ((0.5, 0.6, 0.8), 0.25)
    assert step_sizes(100, 2, *rates, 3) == [25, 8, 8, 9, 3, 3, 3]
    assert step_sizes(100, 3, *rates, 3) == [25, 8, 8, 9, 3, 3, 3, 6, 6, 8]
    assert sum(step_sizes(100, 3, *rates, 3)) == 79
    assert step_sizes(100, 1, *rates, 1) == [25, 25]
    assert step_sizes(5, 1, (0.5, 1.0), 0.25, 2) == [1, 0, 1]  # fewer tokens than steps


@pytest.mark.parametrize('stage', [-1, 4])
def test_an_unknown_stage_is_an_error(stage):
    with pytest.raises(ValueError, match=f'3 keep rates have the stages 0 to 3, got stage {stage}'):
        expand_tokens(draw(17), stage, **DEFAULTS)


def test_too_few_tokens_are_an_error():
    with pytest.raises(ValueError, match=r'initialization_keep_rate=0\.25 keeps none of 3 patch'):
        expand_tokens(draw(4), 1, **DEFAULTS)


def test_before_the_first_stage_and_at_a_full_last_one_the_input_is_handed_on():
    tokens = draw(17)
    for stage in (0, 3):
        out, index = expand_tokens(tokens, stage, **DEFAULTS)
        assert out is tokens and index is None
    partly = dict(DEFAULTS, keep_rate=(0.5, 0.75, 0.9))
    out, _ = expand_tokens(tokens, 3, **partly)
    assert out.shape[1] == 1 + 14


@pytest.mark.parametrize('prefix', [0, 1, 2])
@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('patches', [5, 36, 49, 64, 65, 196])
def test_outputs_and_gradients_are_those_of_the_naive_form(patches, distance, prefix):
    tokens = draw(prefix + patches, seed=patches)
    settings = dict(DEFAULTS, distance=distance, num_prefix_tokens=prefix)
    for stage in (1, 2):
        out, index = expand_tokens(tokens, stage, **settings)
        expected, wanted = expand_tokens_naive(tokens, stage, **settings)
        assert torch.equal(index, wanted)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        weight = torch.randn_like(out)
        gradients = [torch.autograd.grad(o, tokens, weight)[0] for o in (out, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    'changed',
    [
        dict(keep_rate=(0.4, 0.75, 1.0)),
        dict(initialization_keep_rate=0.2),
        dict(expansion_multiple_stage=3),
        dict(distance='euclidean'),
        dict(num_prefix_tokens=0),
    ],
    ids=lambda changed: next(iter(changed)),
)
@FORMS
def test_every_setting_shows(expand, changed):
    tokens = draw(65)
    out, index = expand(tokens, 1, **DEFAULTS)
    other, other_index = expand(tokens, 1, **{**DEFAULTS, **changed})
    assert not (out.shape == other.shape and torch.equal(out, other))
    assert not torch.equal(index, other_index)


def test_images_of_a_batch_are_apart():
    tokens = draw(50, batch=3)
    out, index = expand_tokens(tokens, 1, **DEFAULTS)
    for i in range(3):
        alone, alone_index = expand_tokens(tokens[i : i + 1], 1, **DEFAULTS)
        assert torch.equal(alone_index[0], index[i])
        torch.testing.assert_close(alone[0], out[i])


def test_prefix_tokens_pass_untouched_and_take_no_part():
    tokens = draw(50)
    out, index = expand_tokens(tokens, 1, **DEFAULTS, num_prefix_tokens=2)
    assert torch.equal(out[:, :2], tokens[:, :2])
    assert index[:, :2].tolist() == [[0, 1]] * 2
    changed = torch.cat((-tokens[:, :2], tokens[:, 2:]), 1)
    assert torch.equal(expand_tokens(changed, 1, **DEFAULTS, num_prefix_tokens=2)[1], index)


def test_kept_tokens_are_the_means_of_what_was_merged_into_them():
    patches = draw(36).detach()
    kept, slots = select_tokens(patches, 1, **DEFAULTS)
    out, index = expand_tokens(patches, 1, **DEFAULTS, num_prefix_tokens=0)
    assert torch.equal(index, kept)
    for b in range(2):
        assert len(set(kept[b].tolist())) == 18
        for slot in range(18):
            assert slots[b, kept[b, slot]] == slot
            torch.testing.assert_close(out[b, slot], patches[b, slots[b] == slot].mean(0))


def test_a_merge_spreads_its_gradient_over_what_it_averages():
    tokens = draw(37)
    out, _ = expand_tokens(tokens, 1, **DEFAULTS)
    assert torch.autograd.gradcheck(lambda x: expand_tokens(x, 1, **DEFAULTS)[0], tokens)
    (gradient,) = torch.autograd.grad(out.sum(), tokens)
    assert (gradient != 0).all()
    torch.testing.assert_close(gradient.sum((1, 2)), torch.full((2,), 19.0 * 16).double())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
@pytest.mark.parametrize('autocast', [False, True], ids=['plain', 'autocast'])
@pytest.mark.parametrize('distance', DISTANCES)
def test_half_precision_chooses_and_averages_as_float32_does(dtype, autocast, distance):
    half = draw(197, dtype=torch.float32).detach().mul(100).to(dtype).requires_grad_()
    settings = dict(DEFAULTS, distance=distance)
    expected, wanted = expand_tokens(half.float(), 1, **settings)
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        out, index = expand_tokens(half, 1, **settings)
        float_out, float_index = expand_tokens(half.float(), 1, **settings)
    assert out.dtype == dtype
    assert torch.equal(index, wanted) and torch.equal(float_index, wanted)
    torch.testing.assert_close(float_out, expected, rtol=0, atol=0)
    torch.testing.assert_close(out, expected.to(dtype), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(out.float().sum(), half)
    assert gradient.dtype == dtype and gradient.isfinite().all()


def test_half_precision_sums_beyond_its_range():
    tokens = torch.full((1, 197, 4), 4e4, dtype=torch.float16)
    out, _ = expand_tokens(tokens, 1, **DEFAULTS)
    assert torch.equal(out, tokens[:, :99])


@pytest.mark.slow
def test_compiling_changes_no_number():
    """In one graph, also where batches and images change their size."""
    torch._dynamo.reset()
    compiled = torch.compile(expand_tokens, fullgraph=True, backend='aot_eager_decomp_partition')
    expand = partial(compiled, **DEFAULTS)
    try:
        for batch, length in [(2, 50), (3, 82)]:
            tokens = draw(length, batch)
            out, index = expand(tokens, 1)
            expected, wanted = expand_tokens(tokens, 1, **DEFAULTS)
            assert torch.equal(index, wanted)
            torch.testing.assert_close(out, expected)
            gradients = [torch.autograd.grad(o.pow(2).sum(), tokens)[0] for o in (out, expected)]
            torch.testing.assert_close(*gradients)
        assert expand(tokens, 3)[1] is None
    finally:
        torch._dynamo.reset()


def test_tokens_without_length_do_no_harm():
    tokens = draw(37).detach()
    tokens[:, 5:9] = 0
    tokens.requires_grad_()
    out, _ = expand_tokens(tokens, 1, **DEFAULTS)
    (gradient,) = torch.autograd.grad(out.sum(), tokens)
    assert out.isfinite().all() and gradient.isfinite().all()


def test_restoring_puts_tokens_back_and_leaves_the_rest_zero():
    tokens = draw(37)
    out, index = expand_tokens(tokens, 1, **DEFAULTS)
    restored = restore_tokens(out, index, 37)
    assert restored.shape == tokens.shape
    assert torch.equal(restored.gather(1, index[..., None].expand(-1, -1, 16)), out)
    kept = torch.zeros(2, 37, dtype=torch.bool).scatter(1, index, True)
    assert not restored[~kept].any()
    weight = torch.randn_like(restored)
    (gradient,) = torch.autograd.grad(restored, out, weight)
    assert torch.equal(gradient, weight.gather(1, index[..., None].expand(-1, -1, 16)))
