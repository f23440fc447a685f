"""Scenes of digits on textured canvases, painted from a seed.

A seed gives the same bytes on every machine. All arithmetic is on integers, which are not rounded
and do not depend on the order of a sum. Random numbers come from NumPy's RandomState, whose streams
never change (NEP 19); those of its Generator may.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

PAINTING = 1  # version of the painting: increase it with each change that changes a pixel

NUM_DIGITS = (4, 9)  # tried per scene, both ends included
DIGIT_SIZE = (28, 56)  # height and width in pixels of a scan with its margin, both ends included
MARGIN = 1  # empty cells around a scan, so that strokes have soft ends
MAX_OVERLAP = 8  # two boxes overlap by at most 1 / 8 of the area of the smaller one
ATTEMPTS = 20  # to find a free position, after which a digit is left out
CONTRAST = (72, 127)  # in grey levels; up to 127, a lighter or a darker digit is possible
TINT = 40  # maximal difference between a colour channel of a digit and its grey level
INK_SHOWN = 96  # of 255: this much ink and more belongs to the mask of a digit
CANVAS_LEVEL = (60, 195)
# The texture is a sum of random grids, enlarged to the canvas: rows and columns of a grid -> its
# largest value. Few cells make a gradient, many make grain.
TEXTURE = {2: 36, 5: 16, 14: 10, 48: 10}


class Scene(NamedTuple):
    """An image and its instances.

    Attributes:
        image: (S, S, 3) uint8.
        instances: (S, S) uint8, 0 on the background and 1 + label + 10 * n on the n-th digit. Later
            digits cover earlier ones.
    """

    image: np.ndarray
    instances: np.ndarray


def paint_scene(
    scans: np.ndarray, labels: np.ndarray, image_size: int, seed: Sequence[int]
) -> Scene:
    """Paint a scene from a seed.

    Args:
        scans: (N, 8, 8) uint8, the ink of each digit.
        labels: (N,) integers from 0 to 9.
        image_size: height and width S of the canvas in pixels, at least `DIGIT_SIZE[1]`.
        seed: one or more integers of 32 bits.
    """
    random = RandomState(seed)
    image = paint_texture(random, image_size)
    instances = np.zeros((image_size, image_size), np.uint8)
    boxes: list[tuple[int, int, int]] = []
    for _ in range(between(random, NUM_DIGITS)):
        index = between(random, (0, len(scans) - 1))
        box = find_place(random, image_size, boxes)
        if box is None:
            continue
        left, top, size = box
        place = np.s_[top : top + size, left : left + size]
        ink = enlarge(np.pad(scans[index].astype(np.int32), MARGIN), size)
        image[place] = draw(random, image[place], ink)
        instances[place][ink >= INK_SHOWN] = 1 + labels[index] + 10 * len(boxes)
        boxes.append(box)
    return Scene(image.astype(np.uint8), instances)


def between(random: RandomState, ends: tuple[int, int]) -> int:
    """Draw a random integer, both ends included."""
    return int(random.randint(ends[0], ends[1] + 1, dtype=np.int32))


def paint_texture(random: RandomState, image_size: int) -> np.ndarray:
    """Paint a canvas of gradients and grain, (S, S, 3) int32 from 0 to 255."""
    canvas = np.full((image_size, image_size, 3), between(random, CANVAS_LEVEL), np.int32)
    for cells, reach in TEXTURE.items():
        grid = random.randint(-reach, reach + 1, (cells, cells, 3), dtype=np.int32)
        canvas += enlarge(grid, image_size)
    return canvas.clip(0, 255)


def find_place(
    random: RandomState, image_size: int, taken: list[tuple[int, int, int]]
) -> tuple[int, int, int] | None:
    """Draw a size and position (left, top, size) with little overlap; None if none is found."""
    for _ in range(ATTEMPTS):
        size = between(random, DIGIT_SIZE)
        left, top = (between(random, (0, image_size - size)) for _ in range(2))
        if all(_hardly_overlap((left, top, size), other) for other in taken):
            return left, top, size
    return None


def _hardly_overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    width, height = (
        max(min(one[axis] + one[2], other[axis] + other[2]) - max(one[axis], other[axis]), 0)
        for axis in (0, 1)
    )
    return width * height * MAX_OVERLAP <= min(one[2], other[2]) ** 2


def draw(random: RandomState, beneath: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Draw ink (s, s) on a part of the canvas (s, s, 3), in a colour of good contrast."""
    level = int(beneath.sum()) // beneath.size
    contrast = between(random, CONTRAST)
    sides = [side for side in (level - contrast, level + contrast) if 0 <= side <= 255]
    grey = sides[between(random, (0, len(sides) - 1))]
    tint = random.randint(-TINT, TINT + 1, 3, dtype=np.int32)
    colour = (grey + tint).clip(0, 255)
    cover = (128 + 2 * (ink[..., None] - INK_SHOWN)).clip(0, 255)  # twice as sharp as the scan
    return (colour * cover + beneath * (255 - cover)) // 255


def enlarge(grid: np.ndarray, size: int) -> np.ndarray:
    """Interpolate a grid (n, n, ...) of int32 below 256 to (size, size, ...), size < 1000."""
    rows = _stretch(grid, size)
    both = _stretch(rows.swapaxes(0, 1), size).swapaxes(0, 1)
    return both // (2 * size) ** 2


def _stretch(grid: np.ndarray, size: int) -> np.ndarray:
    """Interpolate along the first axis; the values are multiplied by 2 * size."""
    # The centre of pixel i is at cell ((2 i + 1) n - size) / (2 size).
    cell, share = np.divmod((2 * np.arange(size, dtype=np.int32) + 1) * len(grid) - size, 2 * size)
    near, far = (index.clip(0, len(grid) - 1) for index in (cell, cell + 1))
    share = share.reshape(-1, *[1] * (grid.ndim - 1))
    return grid[near] * (2 * size - share) + grid[far] * share
