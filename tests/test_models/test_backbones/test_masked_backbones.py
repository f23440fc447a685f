"""MAELION and SimMIML2ViT see nothing of masked patches; their weights are the backbone's."""

from functools import partial

import pytest
import torch
from goldens import draw_weights
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor

from mmvitlin.layers.position_embedding import sine_positions
from mmvitlin.models import LION, MAELION, L2ViT, SimMIML2ViT

ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=32)
SMALL_LION = partial(MAELION, arch=ARCH, img_size=(24, 32), patch_size=8, mask_type='Selective')
SMALL_L2VIT = dict(
    arch=dict(embed_dims=(8, 16, 24, 32), depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4)),
    window_size=3,
    out_indices=(0, 3),
)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))


def repaint(images: Tensor, mask: Tensor, size: int) -> Tensor:
    """Paint the masked patches of `size` pixels otherwise."""
    pixels = mask.bool().repeat_interleave(size, 1).repeat_interleave(size, 2)[:, None]
    return torch.where(pixels, 7 - 3 * images, images)


@pytest.fixture(params=['Normal', 'S'])
def mae(request):
    model = SMALL_LION(order=request.param)
    draw_weights(model)
    return model.eval()


def test_mae_sees_nothing_of_masked_patches(mae, images):
    _, mask, _ = mae(images)
    latent, given, restore = mae(images, mask)
    assert mask.sum(1).tolist() == [9, 9] and given.equal(mask)  # of 12, int(12 * 0.25) are kept
    assert latent.shape == (2, 1 + 3, 24)
    again, *_ = mae(repaint(images, mask.view(2, 3, 4), 8), mask)
    torch.testing.assert_close(again, latent, rtol=0, atol=0)
    assert not mae(repaint(images, 1 - mask.view(2, 3, 4), 8), mask)[0].allclose(latent)
    # The decoder reads patch i at place restore[i] of [kept patches, masked patches].
    assert (restore >= 3).equal(mask.bool())
    assert restore.sort(1).values.equal(torch.arange(12).expand(2, -1))


def test_the_decay_counts_the_kept_patches_in_between(images):
    """Patches of one row, every second masked, are those of a row of half the length."""
    whole = SMALL_LION(img_size=(8, 32), order='S')
    draw_weights(whole)
    half = SMALL_LION(img_size=(8, 16), order='S')
    weights = whole.state_dict()
    weights['pos_embed.weight'] = weights['pos_embed.weight'][:, [0, 1, 3]]
    half.load_state_dict(weights)
    row = images[:, :, :8]
    latent, *_ = whole.eval()(row, torch.tensor([[0, 1, 0, 1]] * 2))
    kept = torch.cat([row[..., :8], row[..., 16:24]], -1)
    torch.testing.assert_close(latent, half.eval()(kept, None)[0])


def test_without_a_mask_mae_is_lion_with_sine_positions(mae, images):
    lion = LION(
        **{'arch': ARCH, 'img_size': (24, 32), 'patch_size': 8, 'mask_type': 'Selective'},
        order='S' if len(mae.layers[0].attn.gates) == 2 else 'Normal',
        pos_emb=True,
        out_type='raw',
    ).eval()
    lion.load_state_dict(mae.state_dict())  # strictly
    for mask in (None, False):
        assert mae(images, mask)[0].equal(lion(images)[0])
    assert not mae.pos_embed.weight.requires_grad and lion.pos_embed.weight.requires_grad
    hosts = build_2d_sincos_position_embedding(4, 24, cls_token=True)
    ours = SMALL_LION(img_size=32).pos_embed.weight
    torch.testing.assert_close(ours.detach(), hosts.detach())
    assert sine_positions((3, 4), 24).equal(sine_positions((5, 4), 24)[:12])


@pytest.fixture
def simmim():
    model = SimMIML2ViT(**SMALL_L2VIT)
    draw_weights(model)
    return model.eval()


def test_simmim_sees_nothing_of_masked_patches(simmim, images):
    mask = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    maps = simmim(images, mask)
    assert [tuple(found.shape) for found in maps] == [(2, 8, 6, 8), (2, 32, 1, 1)]
    for found, again in zip(maps, simmim(repaint(images, mask, 4), mask)):
        torch.testing.assert_close(again, found, rtol=0, atol=0)
    assert not simmim(repaint(images, ~mask, 4), mask)[1].allclose(maps[1])
    maps[1].sum().backward()
    assert simmim.mask_token.grad.abs().sum() > 0


def test_without_a_mask_simmim_is_l2vit(simmim, images):
    l2vit = L2ViT(**SMALL_L2VIT).eval()
    differing = l2vit.load_state_dict(simmim.state_dict(), strict=False)
    assert (differing.missing_keys, differing.unexpected_keys) == ([], ['mask_token'])
    for ours, theirs in zip(simmim(images), l2vit(images)):
        assert ours.equal(theirs)
    nothing = torch.zeros(2, 6, 8)
    for ours, theirs in zip(simmim(images, nothing), l2vit(images)):
        assert ours.equal(theirs)


def test_odd_sides_round_the_mask_up(simmim, images):
    assert simmim(images[..., :21, :30], torch.ones(2, 6, 8))[0].shape == (2, 8, 6, 8)


@pytest.mark.parametrize(
    ('build', 'mask', 'message'),
    [
        (SMALL_LION, torch.ones(2, 11), r'2 images of 12 patches need a mask of shape \(2, 12\)'),
        (SMALL_LION, torch.eye(12)[:2].cumsum(1), r'as many patches .*, got \[0, 1\]: mask the'),
        (SimMIML2ViT, torch.ones(2, 24, 32), r'need a mask of shape \(2, 6, 8\), one .* 4 x 4'),
    ],
)
def test_a_wrong_mask_is_refused(build, mask, message, images):
    with pytest.raises(ValueError, match=message) as error:
        build()(images, mask)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('ratio', [-0.1, 1.0])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(ValueError, match=r'mask_ratio must be in \[0, 1\)'):
        SMALL_LION(mask_ratio=ratio)


@pytest.mark.parametrize(('build', 'plain'), [(SMALL_LION, LION), (SimMIML2ViT, L2ViT)])
def test_a_checkpoint_starts_the_plain_backbone(build, plain, tmp_path, caplog):
    """All that a classifier's backbone needs is in the checkpoint."""
    encoder = build()
    draw_weights(encoder)
    weights = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
    path = str(tmp_path / 'pretrained.pth')
    torch.save(dict(state_dict={**weights, 'neck.mask_token': torch.zeros(1)}), path)
    settings = dict(build.keywords, pos_emb=True) if plain is LION else {}
    start = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    backbone = plain(**settings, init_cfg=start)
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        assert value.equal(weights[f'backbone.{name}']), name
