"""Tokens and compute are planned before training, and what cannot be trained fails then."""

import re
from dataclasses import replace

import mmpretrain.models as hosts
import pytest
import torch
from torch import nn

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.curricula.plan import count_stages, plan_training
from mmvitlin.curricula.token_expansion.token_reduction import Expansion
from mmvitlin.engine.cost import count_flops
from mmvitlin.errors import ConfigError
from mmvitlin.models import L2ViT, ViTLLaMA

PAPER = Expansion((0.5, 0.75, 1.0), 0.25, 2, 'cosine')
TINY = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)


def vit(**settings):
    return hosts.VisionTransformer(**{**dict(arch=TINY, img_size=32, patch_size=8), **settings})


@pytest.mark.slow
def test_deit_small_trains_at_most_1_3_times_faster():
    deit = vit(arch='deit-small', img_size=224, patch_size=16)
    dense, *costs = count_stages(deit, PAPER)
    assert [cost.num_tokens for cost in (dense, *costs)] == [197, 99, 148, 197]
    faster = [dense.multiply_adds / cost.multiply_adds for cost in costs]
    assert faster == pytest.approx([1.87, 1.31, 1], abs=5e-3)
    plan = plan_training(deit, expansion=PAPER, expansion_step=(0, 1 / 3, 2 / 3))
    assert 1 / plan.compute == pytest.approx(1.305, abs=1e-3)


def test_compute_is_that_of_the_formula():
    """Patches; a dense layer; selection of 98 among 196; 11 layers on 99 tokens."""
    dense, first = count_stages(vit(arch='deit-small', img_size=224, patch_size=16), PAPER)[:2]

    def layer(tokens):
        return 12 * tokens * 384**2 + 2 * tokens**2 * 384

    patches = 196 * 384 * 3 * 16 * 16
    assert dense.multiply_adds == patches + 12 * layer(197)
    assert first.multiply_adds == patches + layer(197) + 196 * 98 * 384 + 11 * layer(99)


@pytest.mark.parametrize(
    ('backbone', 'tokens'),
    [
        (lambda: vit(), [17, 9]),
        (lambda: vit(with_cls_token=False, out_type='avg_featmap'), [16, 8]),
        (lambda: vit(img_size=(32, 64)), [33, 17]),
        (lambda: vit(in_channels=1), [17, 9]),
        (lambda: hosts.DistilledVisionTransformer(TINY, img_size=32, patch_size=8), [18, 10]),
        (lambda: hosts.DeiT3('s', img_size=64), [17, 9]),
        (lambda: vit().half(), [17, 9]),
        (lambda: vit(out_indices=[0, 2]), [17, 9]),
    ],
    ids=['class token', 'none', 'oblong', 'grey', 'distilled', 'DeiT III', 'half', 'two outputs'],
)
def test_plain_vision_transformers_are_taken(backbone, tokens):
    costs = count_stages(backbone(), Expansion((0.5, 1.0), 0.25, 2, 'cosine'))
    assert [cost.num_tokens for cost in costs] == [*tokens, tokens[0]]


@pytest.mark.parametrize('checkpoint', [None, 'not/there.pth', 'random'])
def test_vit_llama_is_planned_without_its_block(checkpoint):
    llama = dict(embed_dims=16, num_heads=2, feedforward_channels=24, num_blocks=2)
    backbone = ViTLLaMA(TINY, 32, 8, llama=llama | dict(checkpoint=checkpoint))
    dense, half, _, _ = count_stages(backbone, PAPER)
    assert (dense.num_tokens, half.num_tokens) == (17, 9)
    assert backbone.llama._weights.blocks is None

    def refined(tokens):  # by two blocks of LLaMA and the linear layers around them
        block = 4 * tokens * 16**2 + 2 * tokens**2 * 16 + 3 * tokens * 16 * 24
        return 2 * block + 2 * tokens * 8 * 16

    plain_dense, plain_half, _, _ = count_stages(vit(), PAPER)
    assert dense.multiply_adds == plain_dense.multiply_adds + refined(17)
    assert half.multiply_adds == plain_half.multiply_adds + refined(9)


def test_planning_leaves_the_block_of_vit_llama_where_it_is():
    llama = dict(embed_dims=16, num_heads=2, feedforward_channels=24, checkpoint='random')
    backbone = ViTLLaMA(TINY, 32, 8, llama=llama)
    backbone.llama.prepare()
    blocks = backbone.llama._weights.blocks
    count_stages(backbone, PAPER)
    assert backbone.llama._weights.blocks is blocks
    assert all(type(value) is torch.Tensor for value in blocks[0].values())


REFUSED = {
    'raw': (
        lambda: vit(out_type='raw'),
        r"\(1, 9, 8\)\] instead of .*out_type='raw' needs every token",
    ),
    'featmap': (lambda: vit(out_type='featmap'), r"out_type='featmap' needs every token"),
    'ragged featmap': (
        lambda: vit(out_type='featmap', img_size=40),
        r"does not run on fewer tokens.*such as out_type='cls_token'",
    ),
    'stages': (lambda: L2ViT('tiny'), r'L2ViT has no plain token sequence'),
    'windows': (lambda: hosts.SwinTransformer('tiny'), r'SwinTransformer has no plain token seq'),
    'position bias': (lambda: hosts.BEiTViT('base'), r'BEiTViT does not run on fewer tokens'),
    'rotary positions': (lambda: hosts.ViTEVA02('t'), r'ViTEVA02 does not run on fewer tokens'),
    'masks': (lambda: hosts.BEiTPretrainViT('base'), r'does not run on images of 224 x 224'),
    'convolutions': (lambda: nn.Conv2d(3, 8, 3), r'Conv2d has no plain token sequence'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_needs_every_token_is_refused_at_the_start(case):
    build, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        TokenExpansionHook().attach(build())


def test_a_backbone_without_an_image_size_is_refused():
    backbone = vit()
    del backbone.img_size
    with pytest.raises(ConfigError, match=r'VisionTransformer has no img_size'):
        count_stages(backbone, PAPER)


@pytest.mark.parametrize('layer', [-1, 3])
def test_a_layer_that_is_not_there_is_refused(layer):
    message = f'layer={layer}, and VisionTransformer has the layers 0 to 2'
    with pytest.raises(ConfigError, match=re.escape(message)):
        count_stages(vit(), replace(PAPER, layer=layer))


def test_counting_leaves_the_backbone_and_random_numbers_alone():
    backbone = vit(drop_path_rate=0.1, frozen_stages=1)
    backbone.train()
    modes = [module.training for module in backbone.modules()]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    random_state = torch.get_rng_state()
    count_stages(backbone, PAPER)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert not hasattr(backbone, 'token_expansion')


def test_a_backbone_that_is_reduced_already_is_counted_like_another():
    backbone = vit()
    hook = TokenExpansionHook()
    costs = hook.attach(backbone)
    hook.set_epoch(0)
    assert count_stages(backbone, PAPER) == costs == count_stages(vit(), PAPER)
    assert count_stages(backbone) == costs[:1]
    assert hook.stage == backbone.token_expansion.stage == 1


def test_one_counter_serves_plans_and_models():
    (cost,) = count_stages(vit())
    assert cost.multiply_adds == count_flops(vit(), torch.randn(1, 3, 32, 32)).total


# Trainings


SIZES = [(20, 20), (20, 20), (24, 24), (32, 32)]
QUARTERS = (0, 0.25, 0.5, 0.75)
EXPANSION = Expansion((0.6, 0.8, 1.0), 0.3, 2, 'cosine')


def plan(backbone=None, **settings):
    defaults = dict(
        image_sizes=SIZES, size_step=QUARTERS, expansion=EXPANSION, expansion_step=(0, 0.6, 0.75)
    )
    return plan_training(backbone or vit(patch_size=4), **{**defaults, **settings})


def test_stages_are_where_images_or_tokens_change():
    stages = plan().stages
    found = [(stage.begin, stage.image_size[0], stage.expansion_stage) for stage in stages]
    assert found == [(0, 20, 1), (0.5, 24, 1), (0.6, 24, 2), (0.75, 32, 3)]
    assert [stage.share for stage in stages] == pytest.approx([0.5, 0.1, 0.15, 0.25])


def test_images_may_become_smaller_again():
    stages = plan(image_sizes=[(20, 20), (32, 32), (20, 20)], size_step=(0, 0.2, 0.5)).stages
    assert [stage.image_size[0] for stage in stages] == [20, 32, 20, 20, 20]


@pytest.mark.slow
def test_compute_is_that_of_each_size_and_stage_over_all_tokens_of_the_largest():
    planned = plan()
    dense = count_stages(vit(patch_size=4), image_size=(32, 32))[0].multiply_adds
    for stage in planned.stages:
        costs = count_stages(vit(patch_size=4), EXPANSION, stage.image_size)
        assert stage.cost == costs[stage.expansion_stage]
        assert stage.compute == stage.cost.multiply_adds / dense
    parts = [stage.compute for stage in planned.stages]
    assert planned.compute == pytest.approx(
        0.5 * parts[0] + 0.1 * parts[1] + 0.15 * parts[2] + 0.25 * parts[3]
    )


def test_without_sizes_images_are_those_that_the_backbone_was_built_for():
    stages = plan(image_sizes=(), size_step=(0,), expansion_step=(0.25, 0.5, 1.5)).stages
    found = [(stage.begin, stage.expansion_stage) for stage in stages]
    assert found == [(0, 0), (0.25, 1), (0.5, 2)]
    assert {stage.image_size for stage in stages} == {(32, 32)}


def test_stages_that_training_never_reaches_cost_nothing_but_set_what_dense_is():
    (stage,) = plan(
        image_sizes=[(20, 20), (32, 32)], size_step=(0, 2), expansion=None, expansion_step=()
    ).stages
    assert (stage.share, stage.image_size) == (1, (20, 20))
    assert stage.compute < 0.5


def test_backbones_without_a_token_sequence_have_no_tokens():
    backbone = L2ViT(dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(2,) * 4))
    stages = plan(backbone, expansion=None, expansion_step=()).stages
    assert [stage.cost.num_tokens for stage in stages] == [None] * 3
    assert [stage.compute for stage in stages][-1] == 1


def test_a_size_that_a_backbone_does_not_run_on_is_named():
    backbone = vit()
    backbone.register_forward_pre_hook(refuse_small_images)
    with pytest.raises(ConfigError, match=r'does not run on images of 20 x 20 \(ValueError: small'):
        plan(backbone, expansion=None, expansion_step=())


def refuse_small_images(backbone, inputs):
    if inputs[0].shape[-1] < 24:
        raise ValueError('small')
