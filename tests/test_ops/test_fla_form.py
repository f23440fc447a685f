"""LION's sums by the operator of flash-linear-attention, with its definition in place of kernels.

The kernels need a GPU: tests/gpu compares them with the same twin.
"""

import pytest
import torch

from mmvitlin.ops.decayed_attention import Scan, naive_form
from mmvitlin.ops.decayed_attention.decay import sum_over_scans
from mmvitlin.ops.decayed_attention.fla import fla_form, sum_by_gla


def simple_gla(q, k, v, g, scale):
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T, o_t = scale * q_t S_t, on (B, L, H, ...)."""
    state, outs = torch.zeros((), dtype=q.dtype), []
    for query, key, value, gate in zip(*(x.unbind(1) for x in (q, k, v, g))):
        state = gate.exp()[..., None, None] * state + key.unsqueeze(-1) * value.unsqueeze(-2)
        outs.append(scale * (query.unsqueeze(-2) @ state).squeeze(-2))
    return torch.stack(outs, 1), None


def by_gla(q, k, v, scans):
    return sum_over_scans(lambda *tokens: sum_by_gla(*tokens, gla=simple_gla), q, k, v, scans)


@pytest.mark.parametrize('per_token', [False, True])
@pytest.mark.parametrize('length', [1, 2, 65])
def test_the_mapping_is_lions_equation_in_outputs_and_gradients(length, per_token):
    torch.manual_seed(length)
    q, k, v = (torch.rand(2, 3, length, 4, dtype=torch.float64) for _ in range(3))
    gates = torch.rand(2 if per_token else 1, 3, length if per_token else 1, dtype=torch.float64)
    inputs = [x.requires_grad_() for x in (q, k, v, gates.log())]
    order = torch.randperm(length)
    results = []
    for form in (naive_form, by_gla):
        *qkv, log_gates = inputs
        sums = form(*qkv, [Scan(log_gates), Scan(2 * log_gates, order)])
        results.append([sums, *torch.autograd.grad(sums.sin().sum(), inputs)])
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_without_a_gpu_it_is_the_chunk_form():
    q, k, v = (torch.rand(1, 2, 70, 4) for _ in range(3))
    scans = [Scan(torch.rand(1, 2, 70).log())]
    torch.testing.assert_close(fla_form(q, k, v, scans), naive_form(q, k, v, scans))
