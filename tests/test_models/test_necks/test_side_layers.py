"""The side layers make the original's pyramid, with the original's number of parameters."""

import pytest
import torch
from torch import nn

from mmvitlin.models import SideLayers


def test_maps_have_the_originals_strides_and_widths():
    maps = [torch.randn(2, 8, 3, 5) for _ in range(4)]
    outs = SideLayers(8, 20)(maps)
    shapes = [(2, 8, 12, 20), (2, 8, 6, 10), (2, 8, 3, 5), (2, 20, 3, 5)]
    assert [tuple(out.shape) for out in outs] == shapes
    assert all((out >= 0).all() for out in outs)


def test_every_convolution_has_a_norm_and_no_bias():
    neck = SideLayers(4, 6, norm_cfg=dict(type='GN', num_groups=2))
    convolutions = [m for m in neck.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert len(convolutions) == 6 == sum(isinstance(m, nn.GroupNorm) for m in neck.modules())
    assert all(convolution.bias is None for convolution in convolutions)


def test_another_number_of_maps_is_refused():
    with pytest.raises(ValueError, match='takes 4 maps, got 1'):
        SideLayers(8)([torch.zeros(1, 8, 2, 2)])
