"""Comparison of a program with its model: outputs and time."""

import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor, nn

from mmvitlin.errors import ConfigError
from mmvitlin.export.parts import Program

TOLERANCE = 1e-4  # of the largest value of an output
RUNS = 10
MIN_FREE_SIDE = 80  # more than two cells of stride 32, and no multiple of it


def check_free(module: nn.Module, dynamic: str | None) -> None:
    """Check that the program of a model can have free sizes.

    Raises:
        ConfigError: a LION in the format 'RNN'.
    """
    for part in module.modules():
        if dynamic == 'size' and getattr(part, 'format', None) == 'RNN':
            raise ConfigError(
                "--dynamic size: LION's format 'RNN' is a loop over the tokens of one size; export "
                'with --cfg-options model.backbone.format=Chunk, which gives the same numbers'
            )


def example(channels: int, height: int, width: int, dynamic: str | None) -> Tensor:
    """Draw the images to export with.

    Free dimensions are above 1 on every map of the model and differ from each other, so that torch
    does not assume that they are fixed or equal.
    """
    batch = 1 if dynamic is None else 2
    if dynamic == 'size':
        height = max(height, MIN_FREE_SIDE)
        width = max(width, height + 13)
    return draw((batch, channels, height, width))


def shapes_to_check(
    shape: Sequence[int], dynamic: str | None, size: tuple[int, int]
) -> list[tuple[int, ...]]:
    """List shapes that a program has to take.

    Args:
        shape: of the images that it was exported with.
        size: (H, W) of the images that it is for.
    """
    batch, channels, height, width = shape
    shapes: list[tuple[int, ...]] = [(batch, channels, height, width)]
    if dynamic is not None:
        shapes += [(number, channels, height, width) for number in (1, 3)]
    if dynamic == 'size':
        sizes = (size, (height, height), (height + 32, width + 64), (height + 5, width + 11))
        shapes += [(1, channels, *size) for size in sizes]
    return shapes


def draw(shape: Sequence[int]) -> Tensor:
    """Draw images from the standard normal distribution, the same for the same shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def compare(module: nn.Module, program: Program, shapes: Sequence[Sequence[int]]) -> list[float]:
    """Compare a program with its module on images of several shapes.

    Returns:
        For each shape, the largest difference over the largest value of an output.

    Raises:
        ConfigError: the program fails, or differs by more than `TOLERANCE`.
    """
    differences = []
    for shape in shapes:
        images = draw(shape)
        with torch.no_grad():
            expected = module(images)
        try:
            with torch.no_grad():
                outs = tuple(program(images))
        except Exception as error:  # the runtime's own, of any kind
            reason = next(iter(str(error).splitlines()), '')
            raise ConfigError(
                f'the program does not take images of shape {tuple(shape)}, so that it is not '
                f'written: {type(error).__name__}: {reason}'
            ) from error
        worst = max(relative_difference(*pair) for pair in zip(outs, expected, strict=True))
        if not worst <= TOLERANCE:
            raise ConfigError(
                f'the program differs from the model by {worst:.1e} on images of shape '
                f'{tuple(shape)}, and at most {TOLERANCE:.0e} was expected: it is not written'
            )
        differences.append(worst)
    return differences


def relative_difference(out: Tensor, expected: Tensor) -> float:
    """Compute the largest difference over the largest value; infinite for other shapes."""
    if out.shape != expected.shape:
        return float('inf')
    return float((out - expected).abs().max() / expected.abs().max())


def latency(program: Program, images: Tensor) -> float:
    """Measure the seconds per run: the median of `RUNS` runs, after one that is not counted."""
    times = []
    with torch.no_grad():
        for _ in range(RUNS + 1):
            start = time.perf_counter()
            program(images)
            times.append(time.perf_counter() - start)
    return median(times[1:])
