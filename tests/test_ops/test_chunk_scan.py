"""The scan over chunks is its plain twin, in outputs, gradients and gradients of those."""

import pytest
import torch

from mmvitlin.ops.decayed_attention.chunk_scan import (
    chunk_scan,
    chunk_scan_naive,
    chunk_scan_parallel,
)


def draw(chunks, decays=None, batch=2, heads=3):
    generator = torch.Generator().manual_seed(chunks)
    updates = torch.randn(
        batch, heads, chunks, 2, 4, 5, generator=generator, dtype=torch.float64
    ).requires_grad_()
    shape = decays or (batch, heads, chunks)
    decay = torch.rand(*shape, 1, 1, generator=generator, dtype=torch.float64).requires_grad_()
    return updates, decay


@pytest.mark.parametrize('decays', [None, (1, 3, 1), (2, 3, 1), (1, 3, 7)])
@pytest.mark.parametrize('chunks', [1, 2, 7])
@pytest.mark.parametrize('reverse', [False, True], ids=['as named', 'reversed'])
@pytest.mark.parametrize('fast', [chunk_scan, chunk_scan_parallel])
def test_states_and_gradients_are_those_of_the_naive_scan(fast, chunks, decays, reverse):
    if decays and decays[2] not in (1, chunks):
        decays = (*decays[:2], chunks)
    inputs = draw(chunks, decays)
    results = []
    for scan in (fast, chunk_scan_naive):
        states = scan(*inputs, reverse)
        nothing = sum(0 * x.sum() for x in inputs)  # one chunk reads none of its inputs
        results.append([states, *torch.autograd.grad(states.sin().sum() + nothing, inputs)])
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_gradients_of_gradients():
    inputs = draw(3, batch=1, heads=1)
    assert torch.autograd.gradcheck(chunk_scan, inputs)
    assert torch.autograd.gradgradcheck(chunk_scan, inputs)


def test_a_state_is_what_the_chunks_before_it_left():
    updates, decays = draw(3, batch=1, heads=1)
    ahead, back = chunk_scan(updates, decays).unbind(3)
    u, d = updates[0, 0], decays[0, 0]
    torch.testing.assert_close(ahead[0, 0, 2], d[1] * u[0, 0] + u[1, 0])
    torch.testing.assert_close(back[0, 0, 0], d[1] * u[2, 1] + u[1, 1])
    assert not ahead[:, :, 0].any()
    assert not back[:, :, 2].any()
