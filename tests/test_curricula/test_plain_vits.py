"""Plain vision transformers of mmpretrain and timm: trained on fewer tokens, or refused."""

import copy

import pytest
import torch
from tiny_run import ROOT

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.curricula.model_parts import find_backbone, layers_of, prefix_tokens_of
from mmvitlin.curricula.plain_vits import (
    PLAIN_VITS,
    build,
    refused_by_efficient_train,
    refused_by_token_expansion,
    table,
)
from mmvitlin.errors import ConfigError

TRAINED = [name for name, vit in PLAIN_VITS.items() if vit.tied_to is None]
PATCHES = 64
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def output(backbone):
    """All outputs in one tensor (N,)."""

    def flat(out):
        if isinstance(out, torch.Tensor):
            return out.flatten()
        return torch.cat([flat(part) for part in out])

    return flat(backbone(IMAGES))


def gradients(backbone):
    backbone.zero_grad()
    output(backbone).sin().sum().backward()
    return {name for name, p in backbone.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.fixture
def built(request):
    """A model, its backbone and hook, and the number of tokens at each call of layer 2."""
    torch.manual_seed(0)
    model = build(request.param)
    backbone, hook, lengths = find_backbone(model), TokenExpansionHook(expansion_step=(1, 2, 3)), []
    for parameter in backbone.parameters():  # scales and tokens that begin at 0 hide what they see
        parameter.data += 0.1 * torch.randn_like(parameter)
    dense = copy.deepcopy(backbone)
    hook.attach(model)
    layers_of(backbone)[2].register_forward_pre_hook(
        lambda _, inputs: lengths.append(inputs[0].shape[1])
    )
    return backbone, dense, hook, lengths


over_trained = pytest.mark.parametrize('built', TRAINED, indirect=True)


@over_trained
def test_training_takes_the_tokens_of_the_stage_and_gives_every_parameter_a_gradient(built):
    backbone, dense, hook, lengths = built
    prefix = prefix_tokens_of(backbone)
    expected = gradients(dense)
    for stage, kept in enumerate((PATCHES, 32, 48, PATCHES)):
        hook.set_epoch(stage)
        backbone.train()
        assert gradients(backbone) == expected
        assert lengths[-1] == prefix + kept
        positions = backbone.pos_embed
        if positions.requires_grad:  # each patch's own, of those that are merged too
            assert positions.grad[:, -PATCHES:].abs().sum(-1).gt(0).all()


@over_trained
def test_evaluation_is_dense(built):
    backbone, dense, hook, lengths = built
    hook.set_epoch(1)
    backbone.eval()
    dense.eval()
    with torch.no_grad():
        assert torch.equal(output(backbone), output(dense))
    assert lengths[-1] == prefix_tokens_of(backbone) + PATCHES


@pytest.mark.parametrize('name', PLAIN_VITS)
def test_what_needs_the_whole_grid_is_refused_before_training(name):
    model, vit = build(name), PLAIN_VITS[name]
    assert (refused_by_efficient_train(model) is None) == vit.any_size
    if vit.tied_to is None:
        assert refused_by_token_expansion(model) is None
    else:
        with pytest.raises(ConfigError, match=r'fewer tokens|no plain token sequence'):
            TokenExpansionHook().attach(model)


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_the_tool_prints():
    assert table() in (ROOT / 'configs/toe/README.md').read_text()
