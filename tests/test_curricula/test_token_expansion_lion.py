"""LION trains on part of its tokens, which stay in the order of its scans."""

import copy

import pytest
import torch
from goldens import draw_weights

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.models import LION
from mmvitlin.models.backbones import lion as lion_backbone
from mmvitlin.ops.scan_orders import order_of_subset, snake_orders
from mmvitlin.ops.token_expansion import expand_tokens

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
DEFAULTS = ((0.5, 0.75, 1.0), 0.25, 2, 'cosine')


def lion(**settings):
    defaults = dict(arch=ARCH, img_size=(16, 24), patch_size=4, mask_type='Decay', order='S')
    model = LION(**{**defaults, **settings}).double()
    draw_weights(model)
    return model


def expanded(model, **settings):
    hook = TokenExpansionHook(**settings)
    hook.attach(model)
    hook.set_epoch(0)
    model.train()
    return model


def images():
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)).double()


def record(model):
    """Record the inputs of every layer."""
    given = []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    return given


def test_some_tokens_are_visited_in_the_order_of_the_scan():
    index = torch.tensor([[0, 2, 3, 5], [0, 1, 4, 6]])
    order = torch.tensor([0, 6, 5, 4, 3, 2, 1])
    assert order_of_subset(order, index).tolist() == [[0, 3, 2, 1], [0, 3, 2, 1]]
    assert order_of_subset(None, index) is None
    everything = torch.arange(7)[None]
    assert torch.equal(order_of_subset(order, everything)[0], order)


@pytest.mark.parametrize('order', ['Normal', 'S'])
def test_kept_tokens_are_in_scan_order_in_every_layer_after(order):
    model = expanded(lion(order=order))
    given = record(model)
    model(images())
    first, full_orders = given[0]
    assert first.shape[1] == 25
    tokens = given[1][0]
    assert tokens.shape[1] == 13

    # The kept tokens, from the op on the output of the first layer.
    before = []
    plain = lion(order=order)
    plain.layers[0].register_forward_hook(lambda _, inputs, out: before.append(out))
    plain.train()
    plain(images())
    expected, index = expand_tokens(before[0], 1, *DEFAULTS)
    for b in range(2):
        ranks = index[b].argsort()
        positions = index[b][ranks]
        torch.testing.assert_close(tokens[b], expected[b, ranks])  # row by row, class token first
        for full, orders in zip(full_orders, zip(*(context for _, context in given[1:]))):
            for scan in orders:  # the same in every layer after
                if full is None:
                    assert scan is None
                else:
                    kept = set(positions.tolist())
                    visited = positions[scan[b]].tolist()
                    assert visited == [p for p in full.tolist() if p in kept]
                    assert visited[0] == 0


@pytest.mark.parametrize('mask_type', ['Lit', 'Decay', 'Selective'])
@pytest.mark.parametrize('order', ['Normal', 'S'])
def test_every_format_gives_the_same_numbers_and_gradients(mask_type, order):
    results = []
    for form in ('Attention', 'RNN', 'Chunk'):
        model = expanded(lion(mask_type=mask_type, order=order, format=form, chunk_size=7))
        (out,) = model(images())
        out.pow(2).sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        results.append([out, *gradients])
    for other in results[1:]:
        for ours, theirs in zip(results[0], other):
            torch.testing.assert_close(ours, theirs)


def test_the_order_of_the_scans_matters(monkeypatch):
    """In the order of keeping other numbers come out."""
    model = expanded(lion())
    (expected,) = model(images())
    monkeypatch.setattr(lion_backbone, 'order_of_subset', lambda order, keep_indices: None)
    (out,) = model(images())
    assert (out - expected).abs().max() > 1e-3 * expected.abs().max()


def test_evaluation_is_dense_and_takes_no_scan_from_training():
    model = expanded(lion())
    model(images())
    model.eval()
    given = record(model)
    (out,) = model(images())
    plain = lion()
    plain.eval()
    torch.testing.assert_close(out, plain(images())[0])
    full = snake_orders(4, 6, torch.device('cpu'))
    for tokens, orders in given:
        assert tokens.shape[1] == 25
        assert all(torch.equal(order, expected) for order, expected in zip(orders, full))


def test_checkpointing_changes_no_number():
    results = []
    for with_cp in (False, True):
        model = expanded(lion(with_cp=with_cp))
        (out,) = model(images())
        out.pow(2).sum().backward()
        results.append([out, *(parameter.grad for parameter in model.parameters())])
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('between', ['training', 'evaluation', 'another stage'])
def test_checkpointing_recomputes_a_forward_pass_as_it_was(between):
    """Even if other passes ran between it and its backward pass."""
    gradients = []
    for with_cp in (False, True):
        model = lion(with_cp=with_cp)
        hook = TokenExpansionHook()
        hook.attach(model)
        hook.set_epoch(0)
        model.train()
        (out,) = model(images())
        if between == 'evaluation':
            model.eval()
        if between == 'another stage':
            hook.set_epoch(100)
        (other,) = model(images().flip(0, 3))
        loss = out.pow(2).sum() + (other.sum() if between == 'training' else 0)
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs)


def test_planning_keeps_no_fake_scan():
    expanded(lion())
    assert type(snake_orders(4, 6, torch.device('cpu'))[0]) is torch.Tensor


def test_compiling_changes_no_number():
    torch._dynamo.reset()
    eager = lion(arch=ARCH | dict(num_layers=2))
    model = expanded(copy.deepcopy(eager))
    expanded(eager)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager_decomp_partition')
    try:
        for mode in (True, False):
            model.train(mode)
            eager.train(mode)
            torch.testing.assert_close(compiled(images())[0], eager(images())[0])
    finally:
        torch._dynamo.reset()
