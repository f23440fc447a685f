"""Checkpointing a block: the numbers of a plain call, less memory, each batch counted once."""

import copy

import pytest
import torch
from torch import nn

from mmvitlin.layers import gradient_checkpointing
from mmvitlin.layers.gradient_checkpointing import checkpoint_block, checkpoint_if_long


class Block(nn.Module):
    """A linear layer, dropout and BatchNorm, which a second forward pass could change."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.drop = nn.Dropout(0.5)
        self.bn = nn.BatchNorm1d(6)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.bn(self.drop(self.fc(x).tanh()))


@pytest.fixture(params=['train', 'eval'])
def blocks(request):
    """Two equal blocks in the same mode."""
    plain = Block().double().train(request.param == 'train')
    return plain, copy.deepcopy(plain)


def step(block, x, run):
    """One training step from a fixed seed: outputs, gradients, and the next random number."""
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    out = run(block, x)
    out.square().sum().backward()
    return [out.detach(), x.grad, *(p.grad for p in block.parameters()), torch.rand(1)]


def test_outputs_gradients_and_buffers_are_those_of_a_plain_call(blocks):
    plain, checkpointed = blocks
    for seed in (0, 1):
        x = torch.randn(5, 6, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
        expected = step(plain, x, lambda block, x: block(x))
        for value, wanted in zip(step(checkpointed, x, checkpoint_block), expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=0)
        for buffer, wanted in zip(checkpointed.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(buffer, wanted, rtol=0, atol=0)
    assert (plain.calls, checkpointed.calls) == (2, 4)  # it did recompute
    assert checkpointed.bn.num_batches_tracked == (2 if plain.training else 0)


def test_running_statistics_are_tracked_again_afterwards(blocks):
    _, block = blocks
    step(block, torch.randn(5, 6, dtype=torch.double), checkpoint_block)
    assert block.bn.track_running_stats


def test_a_failing_recomputation_leaves_the_running_statistics_tracked():
    block = Block()
    out = checkpoint_block(block, torch.randn(5, 6))
    block.fc.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(KeyError('out of luck')))
    with pytest.raises(KeyError, match='out of luck'):
        out.sum().backward()
    assert block.bn.track_running_stats


def test_a_norm_that_keeps_no_statistics_stays_so():
    block = Block()
    block.bn = nn.BatchNorm1d(6, track_running_stats=False)
    step(block, torch.randn(5, 6), checkpoint_block)
    assert not block.bn.track_running_stats
    assert block.bn.running_mean is None


def test_a_frozen_block_passes_the_gradient_on():
    block = Block().requires_grad_(False).eval()
    before = copy.deepcopy(block.state_dict())
    x = torch.randn(5, 6, requires_grad=True)
    expected = torch.autograd.grad(block(x).square().sum(), x)
    torch.testing.assert_close(
        torch.autograd.grad(checkpoint_block(block, x).square().sum(), x), expected
    )
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def test_only_the_input_is_kept_for_the_backward_pass():
    kept = []
    block, x = Block(), torch.randn(5, 6)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        block(x)
        plain = len(kept)
        kept.clear()
        checkpoint_block(block, x)
    assert plain > 2
    assert [shape for shape in kept if len(shape) == 2] == [x.shape]


def test_autocast_holds_in_the_recomputation():
    torch.manual_seed(0)
    plain = Block().eval()
    checkpointed = copy.deepcopy(plain)
    x = torch.randn(5, 6)
    for block, run in ((plain, lambda block, x: block(x)), (checkpointed, checkpoint_block)):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = run(block, x)
        out.float().sum().backward()
    for parameter, wanted in zip(checkpointed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, wanted.grad, rtol=0, atol=0)


@pytest.mark.parametrize('tokens', [4, 5])
def test_a_long_sequence_is_recomputed_to_the_same_gradients(tokens, monkeypatch):
    monkeypatch.setattr(gradient_checkpointing, 'CHECKPOINT_MIN_TOKENS', 5)
    weight, calls = torch.randn(6, 6, requires_grad=True), []

    def function(x, scale):
        calls.append(torch.is_grad_enabled())
        return (x @ weight).tanh() * scale

    x = torch.randn(2, tokens, 6, requires_grad=True)
    found = torch.autograd.grad(checkpoint_if_long(function, x, 3).square().sum(), (x, weight))
    assert len(calls) == (1 if tokens == 4 else 2)
    expected = torch.autograd.grad(function(x, 3).square().sum(), (x, weight))
    for gradient, wanted in zip(found, expected):
        assert torch.equal(gradient, wanted)
    with torch.no_grad():
        calls.clear()
        checkpoint_if_long(function, x, 3)
    assert calls == [False]
