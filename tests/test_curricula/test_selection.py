"""Choice of tokens on given images, as figures show it."""

import pytest
import torch
from mmpretrain.models import VisionTransformer
from test_models.test_backbones.cases import LVVIT

from mmvitlin.curricula.token_expansion.selection import (
    patch_size_of,
    patch_tokens,
    select_stages,
)
from mmvitlin.curricula.token_expansion.token_reduction import Expansion
from mmvitlin.ops.token_expansion import select_tokens

TINY = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)


def vit():
    backbone = VisionTransformer(TINY, img_size=32, patch_size=8, final_norm=False)
    backbone.eval()
    return backbone


@pytest.mark.parametrize('layer', [1, 2])
def test_patch_tokens_are_those_at_the_input_of_the_layer(layer):
    backbone, outputs = vit(), []
    backbone.layers[layer - 1].register_forward_hook(lambda _, inputs, out: outputs.append(out))
    images = [torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32)]
    found = patch_tokens(backbone, layer, images)
    assert all(torch.equal(ours, out[:, 1:]) for ours, out in zip(found, outputs, strict=True))
    backbone(images[0])
    assert len(found) == 2


@pytest.mark.parametrize(('last', 'stages'), [(1.0, [1]), (0.75, [1, 2])])
def test_stages_that_keep_every_token_choose_none(last, stages):
    patches = torch.randn(1, 16, 8)
    expansion = Expansion((0.5, last), 0.25, 2, 'cosine')
    selections = select_stages(patches, expansion)
    assert list(selections) == stages
    for stage, selection in selections.items():
        for ours, (expected,) in zip(selection, select_tokens(patches, stage, *expansion.settings)):
            assert torch.equal(ours, expected)


def test_the_size_of_a_patch_is_not_that_of_a_stem_of_several_convolutions():
    assert patch_size_of(vit()) == (8, 8)
    backbone = LVVIT.build()
    assert patch_size_of(backbone) == (backbone.patch_embed.patch_size,) * 2
