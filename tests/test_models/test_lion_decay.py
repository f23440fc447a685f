"""Masks and gates that are read from a LION are those that its attention applies."""

import numpy as np
import pytest
import torch

from mmvitlin.errors import ConfigError
from mmvitlin.models import LION
from mmvitlin.models.backbones.lion import NUM_SCANS, ORDERS
from mmvitlin.models.lion_decay import (
    SCAN_NAMES,
    gate_quantiles,
    half_life,
    patch_masks,
    read_scans,
)
from mmvitlin.ops.decayed_attention import decay_mask

LAYERS, HEADS, GRID = 2, 3, (4, 5)
ARCH = dict(embed_dims=12, num_layers=LAYERS, num_heads=HEADS, feedforward_channels=12)


def lion(**options):
    torch.manual_seed(0)
    model = LION(ARCH, img_size=16, patch_size=4, format='Attention', **options)
    model.init_weights()
    return model.eval()


def images():
    return torch.randn(2, 3, 16, 18, generator=torch.Generator().manual_seed(1))  # padded to 20


def test_every_number_of_scans_has_names():
    assert {number: len(names) for number, names in SCAN_NAMES.items()} == {1: 1, 2: 2}
    assert set(SCAN_NAMES) == set(NUM_SCANS.values())


@pytest.mark.parametrize('prefix', [0, 1])
@pytest.mark.parametrize('mask_type', ['Decay', 'Selective'])
@pytest.mark.parametrize('order', ORDERS)
def test_masks_are_those_that_attention_applies(mask_type, order, prefix):
    model, inputs = lion(mask_type=mask_type, order=order, with_cls_token=bool(prefix)), []
    for layer in model.layers:
        layer.attn.register_forward_hook(lambda module, args, out: inputs.append(args))
    layers, grid = read_scans(model, images())
    assert grid == GRID
    for layer, args, scans in zip(model.layers, inputs, layers):
        masks = [
            decay_mask(scan, prefix + 20, torch.float64)[0].detach()
            for scan in layer.attn.scans(*args)
        ]
        masks += [sum(masks) / 2] * (len(masks) - 1)  # the mean of two
        for heads, wanted in (None, [m.mean(0) for m in masks]), ([2], [m[2] for m in masks]):
            found = patch_masks(scans, grid, [(0, 0), (3, 2)], heads, prefix)
            for mask, expected in zip(found.values(), wanted, strict=True):
                torch.testing.assert_close(mask, expected[[prefix, prefix + 17]])


def test_reading_leaves_the_model_as_it_was():
    model = lion()
    before = model(images())[0]
    read_scans(model, images())
    assert torch.equal(model(images())[0], before)
    assert not any(layer.attn._forward_pre_hooks for layer in model.layers)


def test_one_gate_per_head_is_read_as_it_is_learned():
    model = lion()
    scan = read_scans(model, images()).layers[1]['row by row']
    gates = model.layers[1].attn.gates[0].logits.sigmoid().double()
    torch.testing.assert_close(gate_quantiles(scan), gates[:, None].detach())


@pytest.mark.parametrize('prefix', [0, 1])
def test_selected_gates_are_read_as_quantiles_over_the_patches(prefix):
    model = lion(mask_type='Selective', with_cls_token=bool(prefix))
    scan = read_scans(model, images()).layers[0]['row by row']
    gates = scan.log_gates[0, :, prefix:].exp().double().numpy()
    expected = np.quantile(gates, [0, 0.25, 0.5, 0.75, 1], axis=1).T
    found = gate_quantiles(scan, prefix).numpy()
    assert found == pytest.approx(expected, abs=1e-6)
    assert (np.diff(found) > 0).all()


def test_half_lives():
    assert half_life(0.5) == 1
    assert 0.9 ** half_life(0.9) == pytest.approx(0.5)
    assert (half_life(0.0), half_life(1.0)) == (0, float('inf'))


def test_a_model_without_decay_is_refused():
    with pytest.raises(ConfigError, match="mask_type='Lit', without decay"):
        read_scans(lion(mask_type='Lit'), images())
