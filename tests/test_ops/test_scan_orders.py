"""Scans of the order 'S' visit each patch once and never jump."""

import pytest
import torch

from mmvitlin.ops.scan_orders import snake, snake_orders, transposed_snake

GRIDS = pytest.mark.parametrize(
    ('height', 'width'), [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3), (4, 4)]
)
CPU = torch.device('cpu')


def test_scans_turn_at_the_end_of_each_row_and_column():
    assert snake(3, 4) == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]
    assert transposed_snake(3, 4) == [0, 4, 8, 9, 5, 1, 2, 6, 10, 11, 7, 3]


@GRIDS
@pytest.mark.parametrize('scan', [snake, transposed_snake])
def test_scans_visit_every_patch_once_and_step_to_a_neighbour(scan, height, width):
    order = torch.tensor(scan(height, width))
    assert sorted(order.tolist()) == list(range(height * width))
    rows, columns = order // width, order % width
    assert (rows.diff().abs() + columns.diff().abs() == 1).all()


@GRIDS
def test_the_second_scan_visits_the_transposed_positions_of_the_first(height, width):
    turned = [(patch % width) * height + patch // width for patch in snake(height, width)]
    assert transposed_snake(width, height) == turned


def test_the_class_token_comes_first():
    first, second = snake_orders(2, 3, CPU)
    assert first.tolist() == [0, 1, 2, 3, 6, 5, 4]
    assert second.tolist() == [0, 1, 4, 5, 2, 3, 6]


def test_orders_that_inference_asked_for_first_train():
    with torch.inference_mode():
        snake_orders(7, 5, CPU)
    order, _ = snake_orders(7, 5, CPU)
    x = torch.randn(36, requires_grad=True)
    x.index_select(0, order).sum().backward()
    assert (x.grad == 1).all()
