"""The low-frequency crop: the original's numbers, the definition's, and invariances."""

import re

import numpy as np
import pytest
import torch
from goldens import load_meta, load_outputs, relative_error, standard_normal

from mmvitlin.ops import low_frequency_crop

SIZES = [(32, 16), (32, 20), (33, 16), (33, 15), (32, 15), (7, 1), (4, 1), (9, 9)]


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def crop_by_definition(images, size):
    """Sum over every kept frequency, by matrices of complex exponentials for each side."""
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    maps = []
    for full, kept in zip(images.shape[-2:], sides):
        frequencies = torch.arange(-(kept // 2), (kept + 1) // 2).double()
        analysis = -2j * torch.pi * frequencies[:, None] * torch.arange(full).double() / full
        synthesis = 2j * torch.pi * torch.arange(kept).double()[:, None] * frequencies / kept
        maps.append(synthesis.exp() @ analysis.exp() / full)
    rows, columns = maps
    return (rows @ images.to(rows.dtype) @ columns.T).real


@pytest.mark.parametrize(('full', 'size'), [(32, 16), (32, 20), (28, 24), (224, 160)])
def test_images_are_the_originals(full, size):
    seed = load_meta('freq_crop')['seed'] + full + size
    expected = load_outputs('freq_crop')[f'crop_{full}_{size}'].double()
    out = low_frequency_crop(standard_normal((1, 2, full, full), seed), size)
    assert out.shape == (1, 2, size, size)
    if full == 224:
        out = out[:, :1, ::10, ::10]  # what the case keeps
    assert relative_error(out, expected) < 1e-6


@pytest.mark.parametrize(('full', 'size'), SIZES)
def test_outputs_and_gradients_are_those_of_the_definition(full, size):
    images = draw(2, 3, full, full).requires_grad_()
    outs = low_frequency_crop(images, size), crop_by_definition(images, size)
    assert relative_error(*outs) < 1e-12
    weight = draw(*outs[0].shape)
    gradients = [torch.autograd.grad((out * weight).sum(), images)[0] for out in outs]
    assert relative_error(*gradients) < 1e-12


@pytest.mark.parametrize('size', [(12, 16), [20, 16], (11, 29), 20, np.int64(16)])
def test_oblong_images_are_cropped_along_each_side(size):
    images = draw(2, 3, 20, 30)
    out = low_frequency_crop(images, size)
    assert out.shape[-2:] == (tuple(size) if isinstance(size, (tuple, list)) else (size, size))
    assert relative_error(out, crop_by_definition(images, size)) < 1e-12


@pytest.mark.parametrize(('full', 'size'), SIZES)
def test_a_constant_image_stays_what_it_was(full, size):
    out = low_frequency_crop(torch.full((1, 1, full, full), 3.0), size)
    torch.testing.assert_close(out, torch.full((1, 1, size, size), 3.0))


@pytest.mark.parametrize(('full', 'size'), [(32, 20), (33, 20)])
def test_a_wave_that_fits_is_the_same_wave_in_fewer_pixels(full, size):
    def wave(side):
        rows, columns = torch.meshgrid(*[torch.arange(side).double() / side] * 2, indexing='ij')
        return torch.cos(2 * torch.pi * (3 * rows - 5 * columns) + 1)[None, None]

    assert relative_error(low_frequency_crop(wave(full), size), wave(size)) < 1e-12


def test_the_size_of_the_images_changes_nothing():
    images = draw(2, 3, 8, 8)
    assert low_frequency_crop(images, 8) is images


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    images = draw(2, 3, 32, 32).to(dtype)
    assert torch.equal(
        low_frequency_crop(images, 20), low_frequency_crop(images.float(), 20).to(dtype)
    )


def test_integers_become_float32():
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    out = low_frequency_crop(images, 10)
    assert out.dtype == torch.float32
    assert relative_error(out.double(), low_frequency_crop(images.double(), 10)) < 1e-5


def test_autocast_leaves_it_alone():
    images = draw(2, 3, 32, 32, dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = low_frequency_crop(images, 20)
    assert torch.equal(out, low_frequency_crop(images, 20))


@pytest.mark.parametrize(
    ('shape', 'size', 'message'),
    [
        ((1, 3, 32, 32), 40, '40 x 40 is larger than the images of 32 x 32'),
        ((1, 3, 32, 16), (32, 20), '32 x 20 is larger than the images of 32 x 16'),
        ((1, 3, 32, 32), 0, 'size must be a positive side, or (h, w), got 0'),
        ((1, 3, 32, 32), 16.0, 'size must be a positive side, or (h, w), got 16.0'),
        ((1, 3, 32, 32), (16, 16, 16), 'got (16, 16, 16)'),
        ((32, 32), 16, 'images must be of shape (B, C, H, W), got (32, 32)'),
    ],
)
def test_what_cannot_be_cropped_is_said(shape, size, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        low_frequency_crop(torch.zeros(shape), size)


def test_it_compiles_in_one_graph():
    torch._dynamo.reset()
    images = draw(2, 3, 32, 32)
    try:
        compiled = torch.compile(low_frequency_crop, backend='aot_eager', fullgraph=True)
        for size in (20, 24, 32):
            torch.testing.assert_close(compiled(images, size), low_frequency_crop(images, size))
    finally:
        torch._dynamo.reset()
