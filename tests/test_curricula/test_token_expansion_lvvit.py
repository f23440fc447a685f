"""LV-ViT trains on part of its tokens and restores their positions, MixToken included."""

import copy
from dataclasses import replace

import pytest
import torch
from goldens import load_golden, relative_error
from test_models.test_backbones.cases import LVVIT
from test_models.test_backbones.test_lvvit import golden_classifier

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.curricula.plan import count_stages
from mmvitlin.curricula.token_expansion.token_reduction import Expansion
from mmvitlin.models import LVViT
from mmvitlin.ops.token_expansion import expand_tokens

pytestmark = pytest.mark.slow

PAPER = dict(keep_rate=(0.4, 0.7, 1.0), initialization_keep_rate=0.2)
EXPANSION = Expansion((0.4, 0.7, 1.0), 0.2, 2, 'cosine')


def lvvit(**settings):
    return LVVIT.build(**dict(out_type='cls_and_patches', drop_path_rate=0.0) | settings).double()


def expanded(model, stage=1, **settings):
    hook = TokenExpansionHook(expansion_step=(0, 1, 2), **PAPER, **settings)
    hook.attach(model)
    hook.set_epoch(stage - 1)
    return model


def images(batch=2):
    return LVVIT.images(32, 40, batch=batch).double()


def test_heads_are_the_originals_at_every_stage():
    golden = load_golden('lvvit')
    model = golden_classifier()
    hook = TokenExpansionHook(**golden.meta['toe'], sparse_eval=True)
    hook.attach(model)
    with torch.no_grad():
        for stage, epoch in {1: 0, 2: 100, 3: 299}.items():
            hook.set_epoch(epoch)
            class_logits, token_logits, _ = model.head.classify(model.extract_feat(golden.images))
            outputs = dict(cls=class_logits, token=token_logits.flatten(1, 2))
            for name, output in outputs.items():
                expected = golden.outputs[f'toe{stage}_{name}_logits']
                assert relative_error(output, expected) < 1e-5, (stage, name)


@pytest.mark.parametrize('out_type', ['cls_and_patches', 'raw', 'featmap'])
@pytest.mark.parametrize('stage', [1, 2])
def test_kept_tokens_return_to_their_positions_and_the_others_are_zero(out_type, stage):
    given = []
    model = lvvit(mix_token=False, out_type=out_type)
    model.layers[1].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model.train()
    model(images())
    _, index = expand_tokens(given[0], stage, *EXPANSION.settings)
    kept = torch.zeros(2, 21, dtype=torch.bool).scatter(1, index, True)

    normed = []
    model.norm2.register_forward_hook(lambda _, inputs, out: normed.append(out))
    (out,) = expanded(model, stage)(images())
    if out_type == 'cls_and_patches':
        class_token, patches = out
        out = torch.cat((class_token[:, None], patches.flatten(1, 2)), 1)
    if out_type == 'featmap':
        out, kept = out.flatten(2).transpose(1, 2), kept[:, 1:]
        index, normed = index[:, 1:] - 1, [normed[-1][:, 1:]]
    assert not out[~kept].any()
    positions = index[..., None].expand(-1, -1, 24)
    torch.testing.assert_close(out.gather(1, positions), normed[-1])


@pytest.mark.parametrize('out_type', ['cls_token', 'avg_tokens'])
def test_readouts_of_some_tokens_need_no_positions(out_type):
    model, normed = lvvit(out_type=out_type), []
    expanded(model).norm2.register_forward_hook(lambda _, inputs, out: normed.append(out))
    model.train()
    (out,) = model(images())
    assert normed[0].shape[1] == 9
    expected = normed[0][:, 0] if out_type == 'cls_token' else normed[0].mean(1)
    assert torch.equal(out, expected)


def test_mixed_tokens_are_chosen_from_and_put_back_where_they_were():
    """The box that the head swaps back is that of the whole grid."""
    model = expanded(lvvit())
    given = []
    model.layers[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model.train()
    plain = lvvit(mix_token=False)
    expanded(plain).train()
    for seed in range(20):
        torch.manual_seed(seed)
        ((class_token, patches, box),) = model(images(batch=3))
        if box.any() and not box.all():
            break
    # The same without MixToken, on patches that were mixed by hand.
    embed_patches = plain.embed_patches
    plain.embed_patches = lambda patches: replace(embed_patches(patches), x=given[-1])
    ((expected_class, expected),) = plain(images(batch=3))
    torch.testing.assert_close(class_token, expected_class)
    torch.testing.assert_close(patches, expected)
    assert patches.shape == (3, 4, 5, 24)


def test_every_parameter_learns_from_the_tokens_that_are_left():
    model = golden_classifier()
    hook = TokenExpansionHook(**PAPER)
    hook.attach(model)
    hook.set_epoch(0)
    model.train()
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in (1, 2)]
    losses = model(load_golden('lvvit').images, samples, mode='loss')
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0 or '.bn' in name or 'conv' in name, name


def test_evaluation_is_dense():
    model, plain = expanded(lvvit()), lvvit()
    model.eval()
    plain.eval()
    torch.testing.assert_close(model(images()), plain(images()), rtol=0, atol=0)


@pytest.mark.parametrize('way', ['with_cp', 'compiled'])
def test_recomputing_and_compiling_change_no_number(way):
    results = []
    for changed in (False, True):
        model = expanded(lvvit(with_cp=changed and way == 'with_cp'))
        model.train()
        run = model
        if changed and way == 'compiled':
            torch._dynamo.reset()
            run = torch.compile(
                copy.deepcopy(model), fullgraph=True, backend='aot_eager_decomp_partition'
            )
        torch.manual_seed(2)
        ((class_token, patches, box),) = run(images())
        (class_token.pow(2).sum() + patches.pow(2).sum()).backward()
        results.append([class_token, patches, box, *(p.grad for p in run.parameters())])
    torch._dynamo.reset()
    for ours, theirs in zip(*results):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_lvvit_small_trains_on_79_137_and_197_tokens():
    with torch.device('meta'):
        model = LVViT('small')
    dense, *costs = count_stages(model, EXPANSION)
    assert [cost.num_tokens for cost in (dense, *costs)] == [197, 79, 137, 197]
    multiply_adds = [cost.multiply_adds for cost in costs]
    assert multiply_adds[0] < multiply_adds[1] < multiply_adds[2] == dense.multiply_adds
