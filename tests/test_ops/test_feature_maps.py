"""Feature maps are positive, and exact where a plain formula loses its digits."""

import pytest
import torch
import torch.nn.functional as F

from mmvitlin.ops.feature_maps import elu_features, silu_features, unit_silu_features

MAPS = pytest.mark.parametrize('features', [elu_features, silu_features, unit_silu_features])


def test_elu_features_are_elu_plus_one():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    torch.testing.assert_close(elu_features(x), F.elu(x) + 1)


def test_elu_features_keep_their_digits_far_below_zero():
    x = torch.tensor([-30.0])
    assert (F.elu(x) + 1).item() == 0
    assert elu_features(x).item() == pytest.approx(torch.tensor(-30.0).double().exp().item())


def test_unit_silu_features_have_unit_norm():
    x = torch.randn(3, 5, 8, dtype=torch.float64) * 10
    shifted = x * x.sigmoid() + 0.5
    found = unit_silu_features(x)
    torch.testing.assert_close(found, shifted / shifted.norm(dim=-1, keepdim=True))


@MAPS
def test_features_are_positive(features):
    assert (features(torch.linspace(-80, 80, 999).unsqueeze(-1)) > 0).all()


@MAPS
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=['float16', 'bfloat16'])
def test_half_precision_gives_float32(features, dtype):
    x = (torch.randn(4, 64) * 3000).to(dtype)
    found = features(x)
    assert found.dtype == torch.float32
    assert torch.equal(found, features(x.float()))


@MAPS
def test_gradients_are_those_of_the_features(features):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(features, x)
