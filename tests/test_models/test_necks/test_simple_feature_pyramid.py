"""The pyramid is ViTDet's, at every size, with every norm, in every host."""

import inspect
import re

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmvitlin.models import SimpleFeaturePyramid
from mmvitlin.models.necks.simple_feature_pyramid import HalvingMaxPool

B, C, OUT = 2, 16, 8


def build(**settings):
    torch.manual_seed(0)
    neck = SimpleFeaturePyramid(**(dict(in_channels=C, out_channels=OUT) | settings))
    for norm in neck.modules():  # ones and zeros would hide a norm left out or put elsewhere
        if isinstance(norm, (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return neck


def draw(height=5, width=7, channels=C):
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(B, channels, height, width, generator=generator)


@pytest.mark.parametrize('size', [(1, 1), (4, 6), (5, 7), (13, 19)])
@pytest.mark.parametrize('num_outs', [None, 4, 5, 6])
def test_one_map_becomes_maps_at_a_quarter_to_twice_its_stride(size, num_outs):
    height, width = size
    outs = build(num_outs=num_outs)(draw(*size))
    sizes = [(4 * height, 4 * width), (2 * height, 2 * width), size]
    while len(sizes) < (num_outs or 4):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    assert isinstance(outs, tuple)
    assert [tuple(out.shape) for out in outs] == [(B, OUT, *size) for size in sizes]
    assert all(out.isfinite().all() for out in outs)


def channel_norm(x, norm):
    """The norm of ViTDet's code: mean and variance over channels, by hand."""
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
    return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]


def deconvolve(x, deconv):
    """A deconvolution of 2 x 2 at stride 2 as a product: no window overlaps another."""
    height, width = x.shape[2:]
    out = torch.einsum('bchw,cdij->bdhiwj', x, deconv.weight)
    out = out.reshape(len(x), -1, 2 * height, 2 * width)
    return out + deconv.bias[:, None, None]


def test_levels_are_the_papers():
    neck, x = build().double(), draw(6, 8).double()
    four, two, one, half = neck.levels
    finest = deconvolve(
        F.gelu(channel_norm(deconvolve(x, four[0]), four[1])),
        four[3],
    )
    pooled = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    resampled = [(finest, four[4:]), (deconvolve(x, two[0]), two[1:]), (x, one), (pooled, half[1:])]
    for out, (found, (lateral, norm, conv, last)) in zip(neck(x), resampled, strict=True):
        found = channel_norm(F.conv2d(found, lateral.weight), norm)
        found = channel_norm(F.conv2d(found, conv.weight, padding=1), last)
        torch.testing.assert_close(out, found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (5, 4), (6, 8)])
def test_pooling_rounds_sizes_up(size):
    x = draw(*size).requires_grad_()
    expected = F.max_pool2d(x, 2, ceil_mode=True)
    out = HalvingMaxPool()(x)
    assert torch.equal(out, expected)
    gradients = (torch.autograd.grad(y.sin().sum(), x)[0] for y in (out, expected))
    assert torch.equal(*gradients)


@pytest.mark.slow
def test_an_exported_pyramid_takes_even_and_odd_maps():
    neck = build(num_outs=5)
    neck.eval()
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    program = torch.export.export(neck, ((draw(11, 18),),), dynamic_shapes=((free,),))
    for size in ((16, 16), (15, 9), (6, 7)):
        x = draw(*size)
        for out, expected in zip(program.module()((x,)), neck(x), strict=True):
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_the_extra_level_takes_every_second_position_of_the_last():
    *_, last, extra = build(num_outs=5)(draw(10, 14))
    assert torch.equal(extra, last[:, :, ::2, ::2])


def test_maps_of_several_depths_give_a_level_each():
    neck, maps = build(), [draw() + depth for depth in range(4)]
    for level, out in enumerate(neck(maps)):
        assert torch.equal(out, neck(maps[level])[level])


def test_maps_may_differ_in_width():
    widths = (8, 16, 24, 32)
    outs = build(in_channels=widths)([draw(channels=width) for width in widths])
    assert [out.shape[1] for out in outs] == [OUT] * 4


def test_levels_can_be_left_out():
    neck = build(scale_factors=(2, 1, 0.5), num_outs=5)
    sizes = [tuple(out.shape[2:]) for out in neck(draw())]
    assert sizes == [(10, 14), (5, 7), (3, 4), (2, 2), (1, 1)]


NORMS = {
    'LN': (dict(type='LN'), nn.LayerNorm),
    'LN2d': (dict(type='LN2d', eps=1e-3), nn.LayerNorm),
    'BN': (dict(type='BN', momentum=0.02), nn.BatchNorm2d),
    'SyncBN': (dict(type='SyncBN', requires_grad=True), nn.SyncBatchNorm),
    'GN': (dict(type='GN', num_groups=4), nn.GroupNorm),
}


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain', 'mmengine'])
@pytest.mark.parametrize('name', NORMS)
def test_every_norm_is_built_in_every_host(scope, name):
    norm_cfg, norm = NORMS[name]
    cfg = dict(
        type='mmvitlin.SimpleFeaturePyramid', in_channels=C, out_channels=OUT, norm_cfg=norm_cfg
    )
    with DefaultScope.overwrite_default_scope(scope):
        neck = MODELS.build(cfg)
    found = [module for module in neck.modules() if isinstance(module, norm)]
    assert len(found) == 9
    assert all(norm_cfg.get('eps', module.eps) == module.eps for module in found)
    assert not any(module.bias is not None for module in convolutions(neck))
    if name != 'SyncBN':  # which has no kernel for a CPU
        assert all(out.isfinite().all() for out in neck(draw()))


@pytest.mark.parametrize('norm', ['LN', 'LN2d', 'BN'])
@pytest.mark.parametrize('trains', [True, False])
def test_norms_are_trained_or_not_as_the_hosts_configs_say(norm, trains):
    neck = build(norm_cfg=dict(type=norm, requires_grad=trains))
    norms = [m for m in neck.modules() if isinstance(m, (nn.LayerNorm, nn.BatchNorm2d))]
    assert {p.requires_grad for norm in norms for p in norm.parameters()} == {trains}
    assert all(p.requires_grad for conv in convolutions(neck) for p in conv.parameters())


def convolutions(neck):
    return [module for module in neck.modules() if type(module) is nn.Conv2d]


def test_without_a_norm_convolutions_have_biases():
    neck = build(norm_cfg=None)
    assert all(module.bias is not None for module in convolutions(neck))
    assert {type(module) for level in neck.levels for module in level} == {
        *(nn.ConvTranspose2d, nn.Identity, nn.GELU, HalvingMaxPool, nn.Conv2d)
    }


@pytest.mark.parametrize('norm', [None, 'LN', 'BN'])
def test_every_level_is_contiguous_whatever_it_is_given(norm):
    x = draw().to(memory_format=torch.channels_last)
    neck = build(norm_cfg=norm and dict(type=norm), num_outs=5)
    assert all(out.is_contiguous() for out in neck(x))  # RoIAlign misreads others in silence


def test_every_parameter_gets_gradient():
    neck = build(num_outs=5)
    sum((out * torch.randn_like(out)).sum() for out in neck(draw())).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in neck.parameters())


@pytest.mark.parametrize('settings', [dict(init_cfg=dict(type='Constant', layer='Conv2d', val=3))])
def test_init_cfg_initialises(settings):
    neck = SimpleFeaturePyramid(C, OUT, **settings)
    neck.init_weights()
    assert all((module.weight == 3).all() for module in convolutions(neck))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_stays_near(dtype):
    neck, x = build(), draw()
    with torch.autocast('cpu', dtype=dtype):
        outs = neck(x)
    for out, expected in zip(outs, neck(x)):
        assert (out - expected).norm() / expected.norm() < 32 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(scale_factors=(3,)), 'must be decreasing and some of (4, 2, 1, 0.5), got (3,)'),
        (dict(scale_factors=(1, 2)), 'decreasing and some of (4, 2, 1, 0.5), got (1, 2)'),
        (dict(scale_factors=()), 'got ()'),
        (dict(scale_factors=4), 'got 4'),
        (dict(in_channels=(8, 8)), 'one for each of the 4 scale_factors'),
        (dict(in_channels=18), 'multiples of 4 where the scale factor is 4, got 18'),
        (dict(in_channels=0), 'got 0'),
        (dict(out_channels=0), 'out_channels must be an integer of at least 1, got 0'),
        (dict(num_outs=3), 'num_outs must be at least 4, one for each of scale_factors, got 3'),
        (dict(norm_cfg=dict(type='Nrm')), "'Nrm'"),
        (dict(norm_cfg=dict(type='GN')), 'num_groups'),
        (dict(norm_cfg='BN'), "got 'BN'"),
    ],
)
def test_bad_arguments_are_refused_with_what_was_given(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**settings)


@pytest.mark.parametrize(
    ('maps', 'message'),
    [
        ([draw()] * 2, 'one for each of 4 levels, got 2'),
        (torch.zeros(2, 35, C), 'got 1 of the shapes [(2, 35, 16)]'),
        (torch.zeros(2, 8, 5, 7), 'in_channels (16, 16, 16, 16), one per level, got'),
    ],
)
def test_other_maps_are_refused_with_their_shapes(maps, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()(maps)


def test_every_argument_is_tested_here():
    source = inspect.getsource(inspect.getmodule(test_every_argument_is_tested_here))
    for argument in set(inspect.signature(SimpleFeaturePyramid).parameters):
        assert f'{argument}=' in source
