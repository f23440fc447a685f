"""LION at detection sizes: no L x L tensor, and little kept of attention for the backward pass."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from mmvitlin.layers import gradient_checkpointing, lion_attention, mlp
from mmvitlin.models import LION

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
SIDE = 36  # of an image in patches of a pixel: 1297 tokens, a long sequence
SHORTER = 15  # for a walk, which takes a second


class LargestTensor(TorchDispatchMode):
    """Records the most elements of any tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        for leaf in tree_flatten(out)[0]:
            if isinstance(leaf, torch.Tensor):
                self.elements = max(self.elements, leaf.untyped_storage().nbytes() // 4)
        return out


def share_of_matrix(side=SIDE, **settings):
    """The largest tensor of a forward and a backward pass, over the size of an L x L matrix."""
    torch.manual_seed(0)
    model = LION(ARCH, img_size=side, patch_size=1, out_type='featmap', **settings)
    with LargestTensor() as largest:
        (out,) = model(torch.randn(1, 3, side, side))
        out.square().sum().backward()
    return largest.elements / (1 + side**2) ** 2


@pytest.mark.parametrize('order', ['Normal', 'S'])
@pytest.mark.parametrize('mask_type', ['Lit', 'Decay', 'Selective'])
@pytest.mark.parametrize(
    ('format', 'with_cp', 'side'),
    [
        ('auto', False, SIDE),
        ('auto', True, SIDE),
        ('Chunk', False, SIDE),
        ('RNN', False, SHORTER),
    ],
)
def test_no_tensor_grows_with_the_square_of_the_tokens(format, with_cp, side, mask_type, order):
    settings = dict(format=format, with_cp=with_cp, mask_type=mask_type, order=order)
    assert share_of_matrix(side, **settings) < 0.25


@pytest.mark.parametrize('side', [SIDE, SHORTER])
def test_the_measure_sees_the_matrix_of_the_equation(side):
    assert share_of_matrix(side, format='Attention') >= 1


@pytest.fixture
def grow(monkeypatch):
    """Set the number of tokens from which a sequence counts as long."""
    return lambda tokens: monkeypatch.setattr(
        gradient_checkpointing, 'CHECKPOINT_MIN_TOKENS', tokens
    )


def gradients(with_cp=False, **settings):
    """All gradients of a model in float64, and the bytes that its graph keeps."""
    torch.manual_seed(0)
    model = LION(ARCH, img_size=16, patch_size=2, with_cp=with_cp, **settings).double()
    images = torch.randn(2, 3, 15, 17, dtype=torch.float64, requires_grad=True)
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        (out,) = model(images)
    out.square().sum().backward()
    found = [images.grad, *(p.grad for p in model.parameters() if p.grad is not None)]
    return found, sum(kept.values())


@pytest.mark.parametrize('format', ['Attention', 'RNN', 'Chunk'])
@pytest.mark.parametrize(
    'settings',
    [
        dict(mask_type='Lit'),
        dict(mask_type='Decay', order='S'),
        dict(mask_type='Selective', order='S'),
        dict(mask_type='Selective', train_gates=False),
    ],
    ids=lambda settings: '-'.join(map(str, settings.values())),
)
def test_recomputed_attention_changes_no_number_and_keeps_less(grow, format, settings):
    expected, whole = gradients(format=format, **settings)
    grow(1)
    found, kept = gradients(format=format, **settings)
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected):
        torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-14)
    assert kept < 0.75 * whole


@pytest.mark.parametrize('step', [(lion_attention, 'decayed_attention'), (mlp.F, 'gelu')])
def test_checkpointed_layers_recompute_no_step_twice(step, grow, monkeypatch):
    calls, run = [], getattr(*step)
    monkeypatch.setattr(*step, lambda *args: calls.append(None) or run(*args))
    grow(1)
    for with_cp in (False, True):
        calls.clear()
        gradients(with_cp=with_cp, drop_path_rate=0.5)  # which comes after both
        assert len(calls) == 2 * ARCH['num_layers']


def test_nothing_is_recomputed_for_a_short_sequence_or_without_gradients(grow, monkeypatch):
    monkeypatch.setattr(gradient_checkpointing, 'checkpoint', None)
    gradients()
    grow(1)
    with torch.no_grad():
        LION(ARCH, img_size=16, patch_size=2)(torch.randn(1, 3, 16, 16))


def test_a_long_sequence_compiles_into_one_graph(grow):
    grow(1)
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = LION(ARCH, img_size=16, patch_size=2, order='S', format='Chunk', chunk_size=32)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager_decomp_partition')
    images = torch.randn(1, 3, 16, 16)
    (out,), (expected,) = compiled(images), model(images)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    torch._dynamo.reset()
