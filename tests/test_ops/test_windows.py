"""Windows: cutting and joining undo each other, and a window holds the tokens of its square."""

import pytest
import torch

from mmvitlin.ops.windows import pad_to_multiple, window_partition, window_unpartition

SIZES = pytest.mark.parametrize(
    ('size', 'height', 'width'),
    [(1, 3, 5), (2, 4, 6), (3, 3, 3), (7, 14, 7), (7, 7, 21)],
    ids=lambda value: str(value),
)


def number(batch, height, width, channels=2):
    """A map whose every element is another number."""
    numbers = torch.arange(batch * height * width * channels, dtype=torch.float64)
    return numbers.view(batch, height, width, channels)


@SIZES
def test_windows_hold_their_squares_row_by_row(size, height, width):
    x = number(3, height, width)
    expected = [
        image[top : top + size, left : left + size].reshape(size * size, -1)
        for image in x
        for top in range(0, height, size)
        for left in range(0, width, size)
    ]
    assert torch.equal(window_partition(x, size), torch.stack(expected))


@SIZES
def test_partition_and_unpartition_are_inverse(size, height, width):
    x = number(3, height, width)
    windows = window_partition(x, size)
    assert torch.equal(window_unpartition(windows, size, height, width), x)
    other = torch.randn_like(windows)
    joined = window_unpartition(other, size, height, width)
    assert joined.shape == x.shape
    assert torch.equal(window_partition(joined, size), other)


@SIZES
def test_gradient_of_a_window_goes_back_to_its_square(size, height, width):
    x = number(2, height, width).requires_grad_()
    weight = number(2, height, width) + 1
    windows = window_partition(x, size)
    (gradient,) = torch.autograd.grad(windows, x, window_partition(weight, size))
    assert torch.equal(gradient, weight)
    windows = windows.detach().requires_grad_()
    joined = window_unpartition(windows, size, height, width)
    (gradient,) = torch.autograd.grad(joined, windows, weight)
    assert torch.equal(gradient, window_partition(weight, size))


def test_maps_of_any_layout_are_cut_alike():
    x = number(2, 6, 4)
    layouts = {
        'channels first in memory': x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        'transposed': x.transpose(1, 2).contiguous().transpose(1, 2),
        'sliced': torch.cat([x, x], -1)[..., :2],
    }
    for name, view in layouts.items():
        assert not view.is_contiguous(), name
        assert torch.equal(window_partition(view, 2), window_partition(x, 2)), name
        assert torch.equal(pad_to_multiple(view, 5), pad_to_multiple(x, 5)), name


@pytest.mark.parametrize(
    ('height', 'width', 'padded'),
    [(1, 1, (7, 7)), (7, 13, (7, 14)), (15, 14, (21, 14)), (6, 8, (7, 14))],
    ids=lambda value: str(value),
)
def test_padding_adds_zeros_to_the_right_and_below(height, width, padded):
    x = number(2, height, width).add(1).requires_grad_()
    out = pad_to_multiple(x, 7)
    assert out.shape == (2, *padded, 2)
    assert torch.equal(out[:, :height, :width], x)
    assert not out[:, height:].any()
    assert not out[:, :, width:].any()
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_a_map_that_fits_is_not_copied():
    x = number(1, 14, 7)
    assert pad_to_multiple(x, 7) is x


def test_joining_cuts_the_padding_off():
    x = number(2, 6, 8)
    windows = window_partition(pad_to_multiple(x, 7), 7)
    assert torch.equal(window_unpartition(windows, 7, 6, 8), x)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_symbolic_sizes_give_the_same_windows_by_gathering():
    def cut_and_join(x):
        windows = window_partition(pad_to_multiple(x, 3), 3)
        return windows, window_unpartition(windows, 3, x.shape[1], x.shape[2])

    gathered = torch.jit.trace(cut_and_join, number(1, 8, 11), check_trace=False)
    assert 'index_select' in str(gathered.graph)
    for shape in ((1, 8, 11), (2, 3, 2), (3, 7, 12)):
        x = number(*shape)
        windows, joined = gathered(x)
        of_images = windows.unflatten(0, (shape[0], -1))
        assert torch.equal(of_images[:, :-1].flatten(0, 1), cut_and_join(x)[0])
        assert torch.equal(of_images[:, -1], of_images[:, 0])
        assert torch.equal(joined, x)
