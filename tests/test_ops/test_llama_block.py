"""The block of LLaMA against its plain twin and its formula."""

import pytest
import torch
from goldens import relative_error
from llama_files import FEEDFORWARD, HEADS, WIDTH, block_of, llama_weights, to_hugging_face

from mmvitlin.checkpoints.llama import PARTS
from mmvitlin.ops.llama_block import llama_block, llama_block_naive, rms_norm

WEIGHTS = block_of(llama_weights(1, dtype=torch.float64), 0)


@pytest.mark.parametrize('length', [1, 63, 64, 65, 197])
def test_fused_attention_gives_the_outputs_and_gradients_of_the_plain_twin(length):
    x = torch.randn(2, length, WIDTH, dtype=torch.float64)
    direction = torch.randn_like(x)
    results = []
    for form in (llama_block, llama_block_naive):
        leaf = x.clone().requires_grad_()
        weights = {name: value.clone().requires_grad_() for name, value in WEIGHTS.items()}
        out = form(leaf, weights, HEADS)
        gradients = torch.autograd.grad(out, [leaf, *weights.values()], direction)
        results.append([out, *gradients])
    for ours, expected in zip(*results):  # a single token's q and k get a gradient of 0
        assert (ours - expected).abs().max() < 1e-12 * max(1, expected.abs().max())


def test_it_is_the_formula():
    """One head, one image, written with loops over tokens."""
    x = torch.randn(5, WIDTH, dtype=torch.float64)
    w = {name.split('.')[-2]: value for name, value in WEIGHTS.items()}

    def norm(token, weight):
        return token / (token.square().mean() + 1e-6).sqrt() * weight

    normed = [norm(token, w['attention_norm']) for token in x]
    expected = []
    for token, own in zip(x, normed):
        scores = [(w['wq'] @ own) @ (w['wk'] @ other) / WIDTH**0.5 for other in normed]
        shares = torch.stack(scores).softmax(0)
        mixed = sum(share * (w['wv'] @ other) for share, other in zip(shares, normed))
        h = token + w['wo'] @ mixed
        n = norm(h, w['ffn_norm'])
        gate = w['w1'] @ n
        expected.append(h + w['w2'] @ (gate * gate.sigmoid() * (w['w3'] @ n)))
    out = llama_block(x[None], WEIGHTS, num_heads=1)
    assert relative_error(out[0], torch.stack(expected)) < 1e-12


def test_heads_matter_and_the_order_of_tokens_does_not():
    x = torch.randn(1, 9, WIDTH, dtype=torch.float64)
    out, order = llama_block(x, WEIGHTS, HEADS), torch.randperm(9)
    assert relative_error(llama_block(x, WEIGHTS, HEADS // 2), out) > 1e-3
    assert relative_error(llama_block(x[:, order], WEIGHTS, HEADS), out[:, order]) < 1e-12


def test_permuted_rows_of_q_and_k_make_no_difference():
    x = torch.randn(2, 17, WIDTH, dtype=torch.float64)
    theirs = to_hugging_face({f'layers.0.{name}': value for name, value in WEIGHTS.items()})
    permuted = {name: theirs[f'model.layers.0.{part.hugging_face}'] for name, part in PARTS.items()}
    assert not torch.equal(permuted['attention.wq.weight'], WEIGHTS['attention.wq.weight'])
    out = llama_block(x, WEIGHTS, HEADS)
    assert relative_error(llama_block(x, permuted, HEADS), out) < 1e-12


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_in_the_products_alone(dtype):
    """The residual stream passes through untouched, far beyond what float16 holds."""
    weights = {name: value.to(dtype) for name, value in WEIGHTS.items()}
    x = torch.randn(2, 9, WIDTH)
    out, expected = llama_block(x, weights, HEADS), llama_block(x.double(), WEIGHTS, HEADS)
    assert out.dtype == torch.float32
    assert relative_error(out.double(), expected) < 8 * torch.finfo(dtype).eps
    large = 1e6 * x
    out = llama_block(large, weights, HEADS)
    assert relative_error(out, large) < 1e-4
    assert not torch.equal(out, large)


def test_autocast_has_no_say():
    weights = {name: value.float() for name, value in WEIGHTS.items()}
    x = torch.randn(2, 9, WIDTH)
    expected = llama_block(x, weights, HEADS)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(llama_block(x, weights, HEADS), expected)


def test_rms_norm_is_in_float32_whatever_comes_in():
    x = torch.randn(3, FEEDFORWARD).half() * 1000  # the squares pass 65504
    expected = x.float() / x.float().square().mean(-1, keepdim=True).sqrt()
    assert rms_norm(x).dtype == torch.float32
    torch.testing.assert_close(rms_norm(x), expected)
    torch.testing.assert_close(rms_norm(x, torch.full((FEEDFORWARD,), 2.0)), 2 * expected)
    assert not rms_norm(torch.zeros(1, 4)).any()
