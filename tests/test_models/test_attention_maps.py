"""The weights are those by which the modules average their values."""

import pytest
import torch
from test_models.test_backbones.cases import CASES
from torch import nn

from mmvitlin.models.attention_maps import WEIGHTS, read_attention


def attention(model):
    return [m for m in model.modules() if type(m).__name__ in WEIGHTS]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_weights_times_values_are_the_outputs(case):
    """With identities as the projections of values and outputs."""
    model = case.build(out_indices=case.all_indices).double()
    model.eval()
    inputs, outputs = [], []

    def keep(module, arguments, output):
        inputs.append(arguments[0])
        outputs.append(output)

    for module in attention(model):
        C = module.proj.in_features
        module.proj = nn.Identity()
        with torch.no_grad():
            module.qkv.weight[2 * C :] = torch.eye(C)
            if module.qkv.bias is not None:
                module.qkv.bias[2 * C :] = 0
        module.register_forward_hook(keep)
    images = case.images(40, 72, batch=1).double()
    maps = read_attention(model, images)
    assert len(maps.layers) == len(attention(model))
    for weights, (rows, columns), x, y in zip(maps.layers, maps.grids, inputs, outputs):
        x, y = (t.reshape(1, -1, t.shape[-1])[0] for t in (x, y))
        assert len(x) - rows * columns == getattr(model, 'num_extra_tokens', 0)
        values = x.view(len(x), len(weights), -1).transpose(0, 1)  # (heads, tokens, D)
        found = (weights @ values).transpose(0, 1).flatten(1)
        torch.testing.assert_close(found, y, rtol=1e-9, atol=1e-9)


def test_a_patch_reads_from_a_map_of_patches():
    case = next(case for case in CASES if case.name == 'LION')
    maps = read_attention(case.build(), case.images(40, 72))
    row = maps.of_patch(-1, (2, 3))
    assert row.shape == maps.grids[-1] == (5, 9)
    assert torch.equal(row.flatten(), maps.layers[-1].mean(0)[1 + 2 * 9 + 3, 1:])
    with pytest.raises(ValueError, match=r'5 rows and 9 columns, got \(5, 0\)'):
        maps.of_patch(-1, (5, 0))


def test_a_model_without_attention_is_refused():
    with pytest.raises(ValueError, match='Conv2d has no attention'):
        read_attention(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 8, 8))
