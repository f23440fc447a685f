"""MixToken: which boxes are drawn, and that swapping twice changes nothing."""

import pytest
import torch

from mmvitlin.ops.mix_tokens import draw_box, swap_box

CPU = torch.device('cpu')


def corners(box):
    """(top, left, bottom, right) of the True places, which must fill it; None without any."""
    places = box.nonzero()
    if not len(places):
        return None
    (top, left), (bottom, right) = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
    assert box[top:bottom, left:right].all()
    return top, left, bottom, right


@pytest.mark.parametrize('grid', [(14, 14), (5, 9), (1, 1)])
def test_boxes_are_rectangles_anywhere_on_the_grid(grid):
    boxes = [draw_box(*grid, CPU) for _ in range(500)]
    assert {tuple(box.shape) for box in boxes} == {grid}
    found = [corners(box) for box in boxes]
    if grid == (1, 1):
        assert set(found) == {None}  # CutMix's sides are even, so a single token stays
    else:
        assert torch.stack(boxes).any(0).all()
        assert len(set(found)) > 50


def test_a_box_is_as_large_as_lam_says_and_cut_at_the_edges(monkeypatch):
    def draw(lam, y, x, rows=8, columns=6):
        monkeypatch.setattr(torch, 'rand', lambda *size, device: torch.tensor([lam, y, x]))
        return corners(draw_box(rows, columns, CPU))

    assert draw(0.75, 0.5, 0.5) == (2, 2, 6, 4)  # half of each side, 3 columns made even
    assert draw(0.75, 0.0, 0.99) == (0, 4, 2, 6)
    assert draw(1.0, 0.5, 0.5) is None
    assert draw(0.0, 0.5, 0.5) == (0, 0, 8, 6)


def test_lam_is_uniform():
    areas = torch.stack([draw_box(64, 64, CPU).float().mean() for _ in range(2000)])
    # With u = 1 - lam and sides of sqrt(u), cut at the edges: (sqrt(u) - u / 4) ** 2.
    assert areas.mean() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)


def test_the_box_comes_from_torchs_random_state():
    torch.manual_seed(1)
    first = draw_box(14, 14, CPU)
    torch.manual_seed(1)
    assert torch.equal(draw_box(14, 14, CPU), first)


def test_swapping_takes_the_box_from_the_reversed_batch_and_undoes_itself():
    tokens = torch.randn(3, 4, 5, 2)
    box = torch.zeros(4, 5, dtype=torch.bool)
    box[1:3, 2:5] = True
    swapped = swap_box(tokens, box)
    for image in range(3):
        assert torch.equal(swapped[image, box], tokens[2 - image, box])
        assert torch.equal(swapped[image, ~box], tokens[image, ~box])
    assert torch.equal(swap_box(swapped, box), tokens)
