"""Token label targets: the original's numbers, torchvision's RoIAlign, and the plain twin."""

import pytest
import torch
from goldens import load_meta, load_outputs, relative_error
from torchvision.ops import roi_align

from mmvitlin.ops.token_labels import (
    WHOLE_IMAGE,
    roi_align_matrix,
    token_label_targets,
    token_label_targets_naive,
)

FORMS = pytest.mark.parametrize('targets_of', [token_label_targets, token_label_targets_naive])


def draw(batch=4, classes=12, k=5, height=18, width=18, seed=0, dtype=torch.float64):
    """Label maps, boxes within the image, and classes."""
    torch.manual_seed(seed)
    order = torch.rand(batch, classes, height, width).argsort(1)[:, :k]
    scores = torch.randn(batch, k, height, width, dtype=dtype)
    extent = torch.rand(batch, 2, dtype=dtype) * 0.9 + 0.1
    start = torch.rand(batch, 2, dtype=dtype) * (1 - extent)
    return (
        torch.stack((scores, order.to(dtype)), 1),
        torch.cat((start, extent), 1),
        torch.randint(classes, (batch,)),
    )


@FORMS
@pytest.mark.parametrize('size', [1, 4])
def test_targets_are_the_originals(targets_of, size):
    meta, outputs = load_meta('token_label_target'), load_outputs('token_label_target')
    targets = targets_of(
        outputs['label_maps_topk'],
        torch.tensor(meta['crop_coords']),
        meta['num_classes'],
        size,
        meta['smoothing'],
        torch.tensor(meta['ground_truth']),
    )
    assert relative_error(targets, outputs[f'target_size{size}']) < 1e-6


@pytest.mark.parametrize('size', [1, 2, 14, (3, 7), (24, 1)])
@pytest.mark.parametrize(('height', 'width'), [(18, 18), (7, 11), (1, 1)])
def test_both_forms_agree(size, height, width):
    maps, boxes, labels = draw(height=height, width=width)
    fast = token_label_targets(maps, boxes, 12, size, 0.2, labels)
    plain = token_label_targets_naive(maps, boxes, 12, size, 0.2, labels)
    rows, columns = (size, size) if isinstance(size, int) else size
    assert fast.shape == (4, 12, 2 if rows * columns == 1 else 2 + rows * columns)
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('bins', [1, 3, 14, 40])
def test_pooling_is_torchvisions_roi_align_outside_of_the_map_too(bins):
    torch.manual_seed(0)
    maps = torch.randn(50, 1, 9, 13, dtype=torch.float64)
    start = torch.rand(50, 2, dtype=torch.float64) * 2 - 0.5
    extent = torch.rand(50, 2, dtype=torch.float64) * 1.5 + 0.01
    read = roi_align_matrix(start[:, 1], extent[:, 1], 9, bins) @ maps[:, 0]
    read = read @ roi_align_matrix(start[:, 0], extent[:, 0], 13, bins + 1).mT
    cells = torch.tensor([13, 9])
    corners = torch.cat((start * cells - 0.5, (start + extent) * cells - 0.5), 1)
    boxes = torch.cat((torch.arange(50.0, dtype=torch.float64)[:, None], corners), 1)
    expected = roi_align(maps, boxes, (bins, bins + 1))[:, 0]
    torch.testing.assert_close(read, expected, rtol=1e-9, atol=1e-12)


def test_a_box_is_left_top_width_height():
    """Class 1 fills the right half of the image, class 2 the lower half."""
    maps = torch.zeros(1, 2, 2, 8, 8)
    maps[:, 1, 0], maps[:, 1, 1] = 1, 2
    maps[:, 0, 0, :, 4:] = 9
    maps[:, 0, 1, 4:] = 9
    boxes = {1: (0.6, 0.0, 0.4, 0.4), 2: (0.0, 0.6, 0.4, 0.4), 0: (0.0, 0.0, 0.3, 0.3)}
    for shown, box in boxes.items():
        targets = token_label_targets(maps, torch.tensor([box]), 3, 2, 0.0)
        if shown:
            assert (targets.argmax(1) == shown).all()
        else:
            assert torch.allclose(targets, torch.tensor(1 / 3))


def test_patches_are_read_row_by_row():
    maps = torch.zeros(1, 2, 1, 4, 6)
    maps[0, 1, 0] = torch.arange(24).view(4, 6)
    maps[:, 0] = 30
    targets = token_label_targets(maps, torch.tensor([WHOLE_IMAGE]), 24, (4, 6), 0.0)
    assert targets[0, :, 2:].argmax(0).tolist() == list(range(24))


def test_half_precision_maps_give_float32_targets_under_autocast_too():
    maps, boxes, labels = draw(dtype=torch.float32)
    maps = maps.half()
    expected = token_label_targets(maps.float(), boxes, 12, 4, 0.1, labels)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        targets = token_label_targets(maps, boxes, 12, 4, 0.1, labels)
    assert targets.dtype == torch.float32
    assert torch.equal(targets, expected)


def test_smoothing_and_ground_truth_change_what_they_name():
    maps, boxes, labels = draw()
    sharp, soft = (token_label_targets(maps, boxes, 12, 3, s, labels) for s in (0.0, 0.3))
    torch.testing.assert_close(sharp.sum(1), torch.ones(4, 11, dtype=sharp.dtype))
    assert torch.equal(sharp[..., 0].argmax(1), labels)
    assert soft.max() < sharp.max()
    torch.testing.assert_close(soft[..., 0].sum(1), torch.ones(4, dtype=soft.dtype))
    without = token_label_targets(maps, boxes, 12, 3, 0.3)
    assert torch.equal(without[..., 1:], soft[..., 1:])
    assert torch.equal(without[..., 0], without[..., 1])


def test_what_does_not_fit_is_refused():
    maps, boxes, labels = draw()
    with pytest.raises(ValueError, match=r'label_maps must be \(B, 2, K, H, W\).*\(4, 5, 18, 18\)'):
        token_label_targets(maps[:, 0], boxes, 12, 4)
    with pytest.raises(ValueError, match=r'boxes must be \(4, 4\).*got \(3, 4\)'):
        token_label_targets(maps, boxes[:3], 12, 4)
    with pytest.raises(ValueError, match=r'ground_truth must be \(4,\).*got \(4, 12\)'):
        token_label_targets(maps, boxes, 12, 4, 0.1, torch.zeros(4, 12))
    with pytest.raises(ValueError, match='classes from 0 to 11, expected 0 to 9'):
        token_label_targets(maps, boxes, 10, 4, 0.1, labels)
    with pytest.raises(ValueError, match='size must be at least 1, got 0'):
        token_label_targets(maps, boxes, 12, 0)
