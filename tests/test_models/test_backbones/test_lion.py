"""Features of LION only; those of all backbones are in test_backbones.py."""

import json

import pytest
import torch
from goldens import FOLDER, load_golden, relative_error
from test_models.test_backbones.cases import LION as CASE
from torch import nn

from mmvitlin.checkpoints.converters.lion import convert_lion, read_lion_arch, read_lion_settings
from mmvitlin.layers import lion_attention
from mmvitlin.layers.gates import ConstantGate, constant_log_gates, selective_log_gates
from mmvitlin.layers.lion_attention import FORMATS, MASK_TYPES, quadratic_max_tokens
from mmvitlin.models.backbones.lion import LION, ORDERS
from mmvitlin.ops.decayed_attention import CHUNK_SIZE, blocking, naive

GOLDENS = sorted(path.stem for path in FOLDER.glob('lion_*.json'))
FORMATS = tuple(FORMATS)


# The original's numbers


def test_there_is_a_golden_of_each_mask_in_each_order():
    built = {tuple(load_golden(name).kwargs[k] for k in ('mask_type', 'order')) for name in GOLDENS}
    assert built == {(mask_type, order) for mask_type in MASK_TYPES for order in ORDERS}


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('name', GOLDENS)
def test_classifier_gives_the_originals_numbers(name, format):
    from mmpretrain.models import ImageClassifier

    golden = load_golden(name)
    kwargs, arch = golden.kwargs, json.loads((FOLDER / f'{name}.json').read_text())['arch']
    backbone = dict(
        type='mmvitlin.LION',
        arch=dict(
            embed_dims=arch['embed_dim'],
            num_layers=arch['depth'],
            num_heads=arch['num_heads'],
            feedforward_channels=arch['embed_dim'] * arch['mlp_ratio'],
        ),
        img_size=arch['img_size'],
        patch_size=arch['patch_size'],
        mask_type=kwargs['mask_type'],
        order=kwargs['order'],
        format=format,
        chunk_size=5,
        pos_emb=kwargs['pos_emb'],
        out_type='cls_token' if kwargs['cls_tok'] else 'avg_tokens',
    )
    head = dict(type='LinearClsHead', num_classes=10, in_channels=arch['embed_dim'])
    model = ImageClassifier(backbone=backbone, head=head).double()
    model.load_state_dict(convert_lion(golden.weights), strict=True)
    model.eval()

    outputs = {}
    model.backbone.norm2.register_forward_hook(lambda norm, args, out: outputs.update(tokens=out))
    with torch.no_grad():
        outputs['logits'] = model(golden.images, mode='tensor')
    assert outputs.keys() == golden.outputs.keys()
    for key, expected in golden.outputs.items():
        assert relative_error(outputs[key], expected) <= 1e-5, key


@pytest.mark.parametrize('name', GOLDENS)
def test_arguments_are_read_off_a_checkpoint(name):
    golden = load_golden(name)
    weights = convert_lion(golden.weights)
    settings = read_lion_settings(weights)
    mask_type, order = golden.kwargs['mask_type'], golden.kwargs['order']
    assert settings['mask_type'] == mask_type
    assert settings['order'] == ('Normal' if mask_type == 'Lit' else order)
    assert settings['pos_emb'] == golden.kwargs['pos_emb']
    assert (settings['patch_size'], settings['in_channels']) == (16, 3)
    assert settings.get('img_size', 64) == 64
    heads = 1 if mask_type == 'Lit' else 3
    assert read_lion_arch(weights) == dict(
        embed_dims=48, num_layers=3, num_heads=heads, feedforward_channels=192
    )


@pytest.mark.parametrize(('arch', 'millions'), [('tiny', 5.68), ('small', 21.98), ('base', 86.42)])
@pytest.mark.parametrize('mask_type', ['Lit', 'Decay'])
def test_parameters_with_a_head_of_1000_classes_are_the_papers(mask_type, arch, millions):
    with torch.device('meta'):
        model = LION(arch, mask_type=mask_type)
        head = nn.Linear(model.embed_dims, 1000)
    count = sum(p.numel() for module in (model, head) for p in module.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=5e-3)


# Formats


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('mask_type', MASK_TYPES)
def test_a_trained_model_switches_its_format_and_keeps_its_numbers(mask_type, order):
    model = CASE.build(mask_type=mask_type, order=order, format='Attention').double()
    model.eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        (expected,) = model(CASE.images(40, 56).double())
        for format in FORMATS:
            for chunk_size in (1, 8, 100):
                model.switch_format(format, chunk_size)
                (out,) = model(CASE.images(40, 56).double())
                assert relative_error(out, expected) < 1e-12, (format, chunk_size)
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_switching_keeps_the_chunk_size_unless_it_is_given():
    model = CASE.build(format='Chunk', chunk_size=4)
    model.switch_format('RNN')
    model.switch_format('Chunk')
    assert (model.format, model.chunk_size) == ('Chunk', 4)
    assert all(layer.attn.form.keywords == dict(chunk_size=4) for layer in model.layers)
    model.switch_format('Chunk', 8)
    assert model.chunk_size == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ('mask_type', 'order', 'format'),
    [
        ('Lit', 'Normal', 'Attention'),
        ('Lit', 'S', 'Chunk'),
        ('Decay', 'Normal', 'auto'),
        ('Decay', 'S', 'Attention'),
        ('Selective', 'Normal', 'Attention'),
        ('Selective', 'S', 'auto'),
    ],
)
def test_an_exported_program_takes_other_sizes(mask_type, order, format):
    """The common suite exports the chunk form of selective gates in order S."""
    arch = CASE.kwargs['arch'] | dict(num_layers=1)
    settings = dict(mask_type=mask_type, order=order, format=format, chunk_size=64)
    model = CASE.build(arch=arch, **settings)
    model.eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(model, (CASE.images(77, 93),), dynamic_shapes=(free,)).module()
    with torch.no_grad():
        for size in ((32, 32), (75, 91), (256, 264)):
            images = CASE.images(*size, batch=1)
            assert relative_error(program(images)[0], model(images)[0]) < 1e-5


def test_exporting_a_model_leaves_it_as_it_was():
    model = CASE.build(format='Attention')
    model.eval()
    images = CASE.images(56, 72)
    with torch.no_grad():
        (expected,) = model(images)
        exported = torch.export.export(model, (images,)).module()
        torch.testing.assert_close(exported(images)[0], expected)
        (out,) = model(images)
    assert type(out) is torch.Tensor
    assert torch.equal(out, expected)


def test_an_unknown_format_is_refused_and_changes_nothing():
    model = CASE.build()
    forms = [layer.attn.form for layer in model.layers]
    for arguments, message in ((('RNNs',), "got 'RNNs'"), (('Chunk', 0), 'got 0')):
        with pytest.raises(ValueError, match=message):
            model.switch_format(*arguments)
    assert [layer.attn.form for layer in model.layers] == forms


@pytest.mark.parametrize(
    ('mask_type', 'order', 'above', 'quadratic'),
    [
        ('Decay', 'Normal', 0, True),
        ('Decay', 'Normal', 1, False),
        ('Decay', 'S', 0, True),
        ('Selective', 'Normal', 0, True),
        ('Selective', 'Normal', 1, False),
        ('Selective', 'S', 0, True),
        ('Selective', 'S', 1, False),
    ],
)
def test_auto_takes_the_equation_for_short_sequences_with_decay(
    mask_type, order, above, quadratic, monkeypatch
):
    calls = []
    for module in (naive, blocking):
        pairs = module.sum_over_pairs
        monkeypatch.setattr(
            module, 'sum_over_pairs', lambda *args, pairs=pairs: calls.append(1) or pairs(*args)
        )
    model = CASE.build(mask_type=mask_type, order=order, format='auto')
    attention = model.layers[0].attn
    tokens = above + quadratic_max_tokens(
        model.embed_dims // attention.num_heads,
        model.chunk_size,
        len(attention.gates),
        shared=mask_type == 'Decay',
    )
    with torch.no_grad():
        model(CASE.images(8, 8 * (tokens - model.num_prefix_tokens)))
    assert bool(calls) is quadratic


def test_auto_takes_chunks_without_decay(monkeypatch):
    monkeypatch.setattr(lion_attention, 'blocked_naive_form', None)
    with torch.no_grad():
        CASE.build(mask_type='Lit', format='auto')(CASE.images(8, 8))


def test_auto_takes_the_equation_at_the_papers_size():
    for num_scans in (1, 2):
        for shared in (True, False):
            assert 197 <= quadratic_max_tokens(64, CHUNK_SIZE, num_scans, shared) < 577


def test_no_tensor_of_all_pairs_appears_in_chunks():
    model = CASE.build(format='Chunk')
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            largest.extend(t.numel() for t in [out] if isinstance(t, torch.Tensor))
            return out

    images = CASE.images(8 * 40, 8 * 40, batch=1)  # 1601 tokens, two heads
    with torch.no_grad(), Watch():
        model(images)
    assert max(largest) < 1601**2


# Orders


def test_scans_of_order_s_have_decays_of_their_own():
    model = CASE.build(mask_type='Decay')
    model.eval()
    with torch.no_grad():
        before = model(CASE.images())[0]
        for gate in (0, 1):
            model.layers[0].attn.gates[gate].logits.add_(1)
            after = model(CASE.images())[0]
            assert not torch.allclose(before, after, rtol=1e-4)
            before = after


def test_turning_the_image_turns_the_output_of_order_s_when_the_scans_change_places():
    """The second scan is the first one of the transposed image."""
    model = CASE.build(pos_emb=False).double()
    model.eval()
    images = CASE.images(24, 40).double()
    with torch.no_grad():
        (expected,) = model(images)
        kernel = model.patch_embed.proj.weight
        kernel.copy_(kernel.transpose(2, 3).clone())
        for layer in model.layers:
            layer.attn.gates = layer.attn.gates[::-1]
        (turned,) = model(images.transpose(2, 3))
    torch.testing.assert_close(turned.transpose(2, 3), expected, rtol=1e-10, atol=1e-10)


def test_lit_sees_the_same_in_every_order():
    outs = []
    for order in ORDERS:
        model = CASE.build(mask_type='Lit', order=order)
        assert not any('gates' in name for name in model.state_dict())
        model.eval()
        with torch.no_grad():
            outs.append(model(CASE.images())[0])
    assert torch.equal(*outs)


# Gates


def test_the_class_tokens_gate_is_one():
    log_gates = selective_log_gates(nn.Linear(8, 3), torch.randn(2, 5, 8), num_prefix_tokens=1)
    assert log_gates.shape == (2, 3, 5)
    assert (log_gates[..., 0] == 0).all()
    assert (log_gates[..., 1:] < 0).all()


def test_gates_are_what_the_paper_says():
    x = torch.randn(2, 5, 8)
    selective, constant = nn.Linear(8, 3), ConstantGate(3)
    expected = 1 - torch.sigmoid(selective(x))
    found = selective_log_gates(selective, x, 1).exp()
    torch.testing.assert_close(found[..., 1:], expected[:, 1:].transpose(1, 2))
    found = constant_log_gates(constant, x, 1).exp()
    torch.testing.assert_close(found.flatten(), constant.logits.sigmoid())


def test_a_decay_starts_at_a_standard_normal_logit():
    logits = torch.cat([ConstantGate(512).logits for _ in range(4)])
    assert abs(logits.mean().item()) < 0.1
    assert logits.std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize('mask_type', ['Decay', 'Selective'])
@pytest.mark.parametrize('train_gates', [True, False])
def test_gates_learn_unless_told_not_to(mask_type, train_gates):
    model = CASE.build(mask_type=mask_type, train_gates=train_gates)
    model(CASE.images())[0].square().sum().backward()
    gates = {n: p for n, p in model.named_parameters() if '.gates.' in n}
    assert gates
    for name, parameter in gates.items():
        assert parameter.requires_grad is train_gates, name
        assert (parameter.grad is not None) is train_gates, name


def test_untrained_gates_pass_no_gradient_to_the_tokens_either():
    """As in the released code, which detaches the gates."""
    attn = CASE.build(train_gates=False).layers[0].attn.double()
    x = torch.randn(1, 17, 24, dtype=torch.double, requires_grad=True)
    orders = ORDERS['S'](4, 4, x.device)
    attn(x, orders).sum().backward()
    seen, gated = x.grad.clone(), []
    for gate in attn.gates:
        gate.register_forward_hook(lambda gate, args, out: gated.append(args[0].requires_grad))
    attn(x, orders)
    assert gated == [False, False]
    assert seen.any()


def test_half_precision_gates_are_float32():
    x = torch.randn(1, 4, 8).bfloat16()
    selective, constant = nn.Linear(8, 3).bfloat16(), ConstantGate(3).bfloat16()
    assert selective_log_gates(selective, x, 1).dtype == torch.float32
    assert constant_log_gates(constant, x, 1).dtype == torch.float32
