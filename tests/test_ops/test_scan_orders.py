"""Scans of the order 'S' visit each patch once and never jump."""

import pytest
import torch

from mmvitlin.ops.scan_orders import snake_orders

GRIDS = pytest.mark.parametrize(
    ('rows', 'columns'), [(1, 1), (1, 5), (5, 1), (3, 4), (4, 3), (4, 4)]
)
CPU = torch.device('cpu')


def test_scans_turn_at_the_end_of_each_row_and_column():
    first, second = snake_orders(3, 4, CPU, num_prefix_tokens=0)
    assert first.tolist() == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]
    assert second.tolist() == [0, 4, 8, 9, 5, 1, 2, 6, 10, 11, 7, 3]


@GRIDS
@pytest.mark.parametrize('scan', [0, 1])
def test_scans_visit_every_patch_once_and_step_to_a_neighbour(scan, rows, columns):
    order = snake_orders(rows, columns, CPU, 0)[scan]
    assert sorted(order.tolist()) == list(range(rows * columns))
    row, column = order // columns, order % columns
    assert (row.diff().abs() + column.diff().abs() == 1).all()


@GRIDS
def test_the_second_scan_visits_the_transposed_positions_of_the_first(rows, columns):
    first, _ = snake_orders(rows, columns, CPU, 0)
    _, second = snake_orders(columns, rows, CPU, 0)
    assert torch.equal(second, first % columns * rows + first // columns)


@pytest.mark.parametrize('prefix', [0, 1, 2])
def test_prefix_tokens_come_first(prefix):
    before = list(range(prefix))
    first, second = snake_orders(2, 3, CPU, prefix)
    assert first.tolist() == before + [prefix + i for i in (0, 1, 2, 5, 4, 3)]
    assert second.tolist() == before + [prefix + i for i in (0, 3, 4, 1, 2, 5)]


def test_a_traced_scan_is_right_for_other_grids():
    traced = torch.jit.trace(lambda x: snake_orders(*x.shape, x.device), torch.zeros(3, 4))
    for grid in ((2, 5), (1, 1), (6, 3)):
        for found, expected in zip(traced(torch.zeros(grid)), snake_orders(*grid, CPU)):
            assert torch.equal(found, expected)
