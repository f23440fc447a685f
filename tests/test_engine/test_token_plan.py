"""What token expansion costs is known before training, and what it cannot train is said then."""

import logging
import re

import mmpretrain.models as hosts
import pytest
import torch
from torch import nn

from mmvitlin.engine import TokenExpansionHook
from mmvitlin.engine.token_plan import plan_stages, speed_up_bound, stage_shares
from mmvitlin.engine.token_sequence import Expansion
from mmvitlin.errors import ConfigError
from mmvitlin.models import L2ViT, ViTLLaMA

PAPER = Expansion((0.5, 0.75, 1.0), 0.25, 2, 'cosine')
TINY = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)


def vit(**settings):
    return hosts.VisionTransformer(**{**dict(arch=TINY, img_size=32, patch_size=8), **settings})


def test_deit_small_trains_at_most_1_3_times_faster():
    stages = plan_stages(vit(arch='deit-small', img_size=224, patch_size=16), 1, PAPER)
    assert [stage.num_tokens for stage in stages] == [197, 99, 148, 197]
    assert [1 / stage.compute for stage in stages] == pytest.approx([1, 1.87, 1.31, 1], abs=5e-3)
    bound = speed_up_bound([stage.compute for stage in stages], stage_shares((0, 100, 200), 300))
    assert bound == pytest.approx(1.305, abs=1e-3)


def test_compute_is_that_of_the_formula():
    """Patches; a dense layer; selection of 98 among 196; 11 layers on 99 tokens."""
    dense, first = plan_stages(vit(arch='deit-small', img_size=224, patch_size=16), 1, PAPER)[:2]

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
    plans = plan_stages(backbone(), 1, Expansion((0.5, 1.0), 0.25, 2, 'cosine'))
    assert [plan.num_tokens for plan in plans] == [*tokens, tokens[0]]


@pytest.mark.parametrize('checkpoint', [None, 'not/there.pth', 'random'])
def test_vit_llama_is_planned_without_its_block(checkpoint):
    llama = dict(embed_dims=16, num_heads=2, feedforward_channels=24, num_blocks=2)
    backbone = ViTLLaMA(TINY, 32, 8, llama=llama | dict(checkpoint=checkpoint))
    dense, half, _, _ = plan_stages(backbone, 1, PAPER)
    assert (dense.num_tokens, half.num_tokens) == (17, 9)
    assert backbone.llama._weights.blocks is None

    def refined(tokens):  # by two blocks of LLaMA and the linear layers around them
        block = 4 * tokens * 16**2 + 2 * tokens**2 * 16 + 3 * tokens * 16 * 24
        return 2 * block + 2 * tokens * 8 * 16

    plain_dense, plain_half, _, _ = plan_stages(vit(), 1, PAPER)
    assert dense.multiply_adds == plain_dense.multiply_adds + refined(17)
    assert half.multiply_adds == plain_half.multiply_adds + refined(9)


def test_planning_leaves_the_block_of_vit_llama_where_it_is():
    llama = dict(embed_dims=16, num_heads=2, feedforward_channels=24, checkpoint='random')
    backbone = ViTLLaMA(TINY, 32, 8, llama=llama)
    backbone.llama.prepare()
    blocks = backbone.llama._weights.blocks
    plan_stages(backbone, 1, PAPER)
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
    'masks': (lambda: hosts.BEiTPretrainViT('base'), r'does not run on images alone'),
    'convolutions': (lambda: nn.Conv2d(3, 8, 3), r'Conv2d has no plain token sequence'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_needs_every_token_is_refused_at_the_start(case, caplog):
    build, message = REFUSED[case]
    with caplog.at_level(logging.ERROR), pytest.raises(ConfigError, match=message):
        TokenExpansionHook().attach(build())
    assert not caplog.records  # torch does not tell it as well


def test_a_backbone_without_an_image_size_is_refused():
    backbone = vit()
    del backbone.img_size
    with pytest.raises(ConfigError, match=r'no img_size or no convolution'):
        plan_stages(backbone, 1, PAPER)


@pytest.mark.parametrize('layer', [-1, 3])
def test_a_layer_that_is_not_there_is_refused(layer):
    message = f'layer={layer}, and VisionTransformer has the layers 0 to 2'
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan_stages(vit(), layer, PAPER)


def test_planning_leaves_no_trace():
    backbone = vit(drop_path_rate=0.1, frozen_stages=1)
    backbone.train()
    modes = [module.training for module in backbone.modules()]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    random_state = torch.get_rng_state()
    plan_stages(backbone, 1, PAPER)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert not any(module._forward_pre_hooks for module in backbone.modules())


def test_a_backbone_that_is_shortened_already_is_planned_like_another():
    backbone = vit()
    hook = TokenExpansionHook()
    hook.attach(backbone)
    hook.set_epoch(0)
    assert plan_stages(backbone, 1, PAPER) == hook.plan == plan_stages(vit(), 1, PAPER)
    assert hook.stage == 1 and len(backbone.layers[1]._forward_pre_hooks) == 1


@pytest.mark.parametrize(
    ('steps', 'length', 'shares'),
    [
        ((0, 100, 200), 300, [0, 1 / 3, 1 / 3, 1 / 3]),
        ((5, 50, 100), 100, [0.05, 0.45, 0.5, 0]),
        ((0, 100, 200), 150, [0, 2 / 3, 1 / 3, 0]),
        ((0.25, 0.5), 1, [0.25, 0.25, 0.5]),
    ],
)
def test_shares_of_the_stages(steps, length, shares):
    assert stage_shares(steps, length) == pytest.approx(shares)
    assert speed_up_bound([1, 0.5, 0.75, 1][: len(shares)], shares) == pytest.approx(
        1 / sum(a * b for a, b in zip([1, 0.5, 0.75, 1], shares))
    )
