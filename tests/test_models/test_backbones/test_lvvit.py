"""Features of LVViT only; those of all backbones are in test_backbones.py."""

import copy

import pytest
import torch
from goldens import load_golden, relative_error
from test_models.test_backbones.cases import LVVIT
from torch import nn

from mmvitlin.checkpoints.converters.lvvit import convert_lvvit
from mmvitlin.errors import CheckpointError
from mmvitlin.models import LVViT, TokenLabelHead
from mmvitlin.ops.mix_tokens import swap_box

GOLDEN = load_golden('lvvit')


def golden_classifier():
    from mmpretrain.models import ImageClassifier

    settings = GOLDEN.kwargs
    backbone = dict(
        type='mmvitlin.LVViT',
        arch=dict(
            embed_dims=settings['embed_dim'],
            num_layers=settings['depth'],
            num_heads=settings['num_heads'],
            feedforward_channels=int(settings['mlp_ratio'] * settings['embed_dim']),
            skip_lam=settings['skip_lam'],
            stem_channels=64,
        ),
        img_size=settings['img_size'],
        patch_size=settings['patch_size'],
    )
    head = dict(
        type='mmvitlin.TokenLabelHead',
        num_classes=settings['num_classes'],
        in_channels=settings['embed_dim'],
    )
    model = ImageClassifier(backbone=backbone, head=head).double()
    model.load_state_dict(convert_lvvit(GOLDEN.weights), strict=True)
    model.eval()
    return model


# The original's numbers


@pytest.mark.usefixtures('mmpretrain_scope')
@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-5), ('float32', 1e-5)])
def test_classifier_gives_the_originals_numbers(dtype, tolerance):
    model = golden_classifier().to(getattr(torch, dtype))
    images = GOLDEN.images.to(getattr(torch, dtype))
    with torch.no_grad():
        outputs = {'logits': model(images, mode='tensor')}
        class_logits, token_logits, _ = model.head.classify(model.extract_feat(images))
        model.backbone.out_type, model.backbone.format_output = 'raw', lambda x, tokens: x
        (outputs['tokens'],) = model.backbone(images)
    outputs |= dict(cls_logits=class_logits, token_logits=token_logits.flatten(1, 2))
    for name, output in outputs.items():
        assert relative_error(output, GOLDEN.outputs[name]) <= tolerance, name


def test_converter_takes_a_checkpoint_of_ours_and_refuses_another_models():
    converted = convert_lvvit(GOLDEN.weights)
    assert convert_lvvit(converted) == converted
    with pytest.raises(CheckpointError, match=r'LV-ViT classifier, such as layers\.0\.weight'):
        convert_lvvit(GOLDEN.weights | {'layers.0.weight': torch.zeros(1)})


# Structure


@pytest.mark.parametrize(
    ('arch', 'millions'),
    [('tiny', 8.53472), ('small', 26.151824), ('medium', 55.830544), ('large', 150.021968)],
)
def test_parameters_with_both_heads_are_as_many_as_published(arch, millions):
    """8.53, 26.15 and 55.83M; of the large one we know of no published number."""
    with torch.device('meta'):
        model = LVViT(arch)
        head = TokenLabelHead(1000, model.embed_dims)
    count = sum(p.numel() for module in (model, head) for p in module.parameters())
    assert count == round(millions * 1e6)


def test_the_stem_sees_across_the_edges_of_patches():
    stem = LVVIT.build().patch_embed
    stem.eval()
    images = LVVIT.images(32, 32)[:1].requires_grad_()
    stem(images)[0, 1, 1].sum().backward()
    rows = images.grad[0].abs().sum((0, 2)).nonzero().flatten()
    # 8 pixels of the patch, and on each side 2 x 2 of the 3 x 3 ones and 3 of the 7 x 7.
    assert (rows.min().item(), rows.max().item()) == (8 - 7, 15 + 6)


def test_branches_are_divided_by_skip_lam():
    plain = LVVIT.build(arch=LVVIT.kwargs['arch'] | dict(skip_lam=1.0, num_layers=1))
    divided = LVVIT.build(arch=LVVIT.kwargs['arch'] | dict(skip_lam=4.0, num_layers=1))
    with torch.no_grad():
        for branch in (divided.layers[0].attn.proj, divided.layers[0].mlp.fc2):
            branch.weight.mul_(4)
            branch.bias.mul_(4)
    for model in (plain, divided):
        model.eval()
    torch.testing.assert_close(divided(LVVIT.images()), plain(LVVIT.images()))


def test_norms_and_biases_are_the_originals():
    model = LVVIT.build()
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert all(layer.attn.qkv.bias is None for layer in model.layers)
    assert all(layer.attn.proj.bias is not None for layer in model.layers)


# MixToken and outputs


def first_layer_input(model, images):
    seen = []
    handle = model.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    (outs,) = model(images)
    handle.remove()
    return outs, seen[0]


def test_mix_token_swaps_a_box_of_patches_behind_the_stem():
    model = LVVIT.build(out_type='cls_and_patches', drop_path_rate=0.0)
    images = LVVIT.images(48, 64, batch=3)
    patches = model.patch_embed(images)
    boxes = []
    for _ in range(8):
        (class_token, out, box), tokens = first_layer_input(model, images)
        assert (class_token.shape, out.shape, box.shape) == ((3, 24), (3, 6, 8, 24), (6, 8))
        expected = model.embed_patches(swap_box(patches, box)).x
        torch.testing.assert_close(tokens, expected)
        boxes.append(box)
    assert any(box.any() for box in boxes)
    assert not all(torch.equal(box, boxes[0]) for box in boxes)


@pytest.mark.parametrize(
    'settings',
    [dict(mix_token=False, out_type='cls_and_patches'), dict(out_type='raw'), {}],
    ids=['off', 'raw', 'featmap'],
)
def test_without_a_head_that_knows_of_it_nothing_is_mixed(settings):
    model = LVVIT.build(**settings)
    patches = model.patch_embed(LVVIT.images())
    outs, tokens = first_layer_input(model, LVVIT.images())
    torch.testing.assert_close(tokens, model.embed_patches(patches).x)
    assert not isinstance(outs, tuple) or len(outs) == 2


def test_evaluation_mixes_nothing_and_repeats_itself():
    model = LVVIT.build(out_type='cls_and_patches')
    model.eval()
    (first,), (second,) = model(LVVIT.images()), model(LVVIT.images())
    assert len(first) == 2
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_every_out_type_reads_the_same_tokens():
    outs = {}
    for out_type in ('raw', 'cls_and_patches', 'featmap'):
        model = LVVIT.build(out_type=out_type).double()
        model.eval()
        with torch.no_grad():
            (outs[out_type],) = model(LVVIT.images(33, 47).double())
    class_token, patches = outs['cls_and_patches']
    assert patches.shape == (2, 5, 6, 24)
    assert torch.equal(class_token, outs['raw'][:, 0])
    assert torch.equal(patches.flatten(1, 2), outs['raw'][:, 1:])
    assert torch.equal(patches.permute(0, 3, 1, 2), outs['featmap'])


@pytest.mark.slow
@pytest.mark.parametrize('with_cp', [False, True], ids=['plain', 'with_cp'])
def test_mixing_changes_no_number_when_compiled_or_recomputed(with_cp):
    torch._dynamo.reset()
    eager = LVVIT.build(out_type='cls_and_patches')
    model = LVVIT.build(out_type='cls_and_patches', with_cp=with_cp)
    compiled = torch.compile(
        copy.deepcopy(model), fullgraph=True, backend='aot_eager_decomp_partition'
    )
    results = []
    try:
        for each in (eager, model, compiled):
            torch.manual_seed(3)
            ((class_token, patches, box),) = each(LVVIT.images(64, 64))
            (class_token.pow(2).sum() + patches.pow(2).sum()).backward()
            gradient = next(p for name, p in each.named_parameters() if 'conv1' in name).grad
            results.append((class_token, patches, gradient, box))
    finally:
        torch._dynamo.reset()
    for *values, box in results[1:]:
        assert torch.equal(box, results[0][-1])
        assert box.any()
        for value, expected in zip(values, results[0]):
            assert relative_error(value, expected) < 1e-5
