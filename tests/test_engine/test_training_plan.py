"""What a training costs whose images, tokens, or both grow."""

import pytest
import torch
from mmpretrain.models import VisionTransformer

from mmvitlin.engine.token_plan import plan_dense, plan_stages
from mmvitlin.engine.token_sequence import Expansion
from mmvitlin.engine.training_plan import compute_ratio, plan_training
from mmvitlin.errors import ConfigError
from mmvitlin.models import L2ViT

TINY = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)
SIZES = [(20, 20), (20, 20), (24, 24), (32, 32)]
QUARTERS = (0, 0.25, 0.5, 0.75)
EXPANSION = Expansion((0.6, 0.8, 1.0), 0.3, 2, 'cosine')


def vit():
    return VisionTransformer(TINY, img_size=32, patch_size=4)


def test_phases_are_where_images_or_tokens_change():
    phases = plan_training(vit(), SIZES, QUARTERS, (0, 0.6, 0.75), EXPANSION)
    found = [(phase.begin, phase.image_size[0], phase.stage) for phase in phases]
    assert found == [(0, 20, 1), (0.5, 24, 1), (0.6, 24, 2), (0.75, 32, 3)]
    assert [phase.share for phase in phases] == pytest.approx([0.5, 0.1, 0.15, 0.25])


def test_compute_is_that_of_each_size_and_stage_over_all_tokens_of_the_largest():
    phases = plan_training(vit(), SIZES, QUARTERS, (0, 0.6, 0.75), EXPANSION)
    dense = plan_dense(vit(), (32, 32)).multiply_adds
    for phase in phases:
        stage = plan_stages(vit(), 1, EXPANSION, phase.image_size)[phase.stage]
        assert (phase.num_tokens, phase.multiply_adds) == (stage.num_tokens, stage.multiply_adds)
        assert phase.compute == stage.multiply_adds / dense
    parts = [phase.compute for phase in phases]
    assert compute_ratio(phases) == pytest.approx(
        0.5 * parts[0] + 0.1 * parts[1] + 0.15 * parts[2] + 0.25 * parts[3]
    )


def test_without_sizes_images_are_those_that_the_backbone_was_built_for():
    phases = plan_training(vit(), expansion_step=(0.25, 0.5, 1.5), expansion=EXPANSION)
    assert [(phase.begin, phase.stage) for phase in phases] == [(0, 0), (0.25, 1), (0.5, 2)]
    assert {phase.image_size for phase in phases} == {(32, 32)}


def test_parts_that_training_never_reaches_cost_nothing_but_set_what_dense_is():
    (phase,) = plan_training(vit(), [(20, 20), (32, 32)], (0, 2))
    assert (phase.share, phase.image_size) == (1, (20, 20))
    assert phase.compute < 0.5


def test_backbones_without_a_token_sequence_have_no_tokens():
    backbone = L2ViT(dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(2,) * 4))
    phases = plan_training(backbone, SIZES, QUARTERS)
    assert [phase.num_tokens for phase in phases] == [None] * 3
    assert [phase.compute for phase in phases][-1] == 1


def test_planning_leaves_no_trace():
    backbone = vit()
    backbone.train()
    state = torch.get_rng_state()
    plan_training(backbone, SIZES, QUARTERS)
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training and not backbone.layers[-1]._forward_pre_hooks


def test_a_size_that_a_backbone_does_not_run_on_is_named():
    backbone = vit()
    backbone.register_forward_pre_hook(refuse_small_images)
    with pytest.raises(ConfigError, match=r'does not run on images of 20 x 20 \(ValueError: small'):
        plan_training(backbone, SIZES, QUARTERS)


def refuse_small_images(backbone, inputs):
    if inputs[0].shape[-1] < 24:
        raise ValueError('small')
