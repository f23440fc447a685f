"""How every backbone reads its `arch` and `out_indices` arguments."""

from collections.abc import Sequence

from torch import nn


def resolve_arch(backbone: nn.Module, arch: str | dict) -> dict:
    """Look `arch` up in the backbone's `arch_zoo`, or check a dict against the zoo's keys.

    Returns:
        The settings, in the zoo's order of keys.

    Raises:
        ValueError: a name that is not in the zoo, or a dict with missing or unknown keys.
    """
    name, zoo = type(backbone).__name__, backbone.arch_zoo
    keys = list(next(iter(zoo.values())))
    if isinstance(arch, str):
        if arch.lower() not in zoo:
            raise ValueError(f'{name} has no arch {arch!r}; choose from {list(zoo)} or give a dict')
        return dict(zoo[arch.lower()])
    if not isinstance(arch, dict) or set(arch) != set(keys):
        raise ValueError(f'{name} takes an arch dict with the keys {keys}, got {arch!r}')
    return {key: arch[key] for key in keys}


def check_stages(settings: dict, num_stages: int, may_be_zero: Sequence[str] = ()) -> None:
    """Check that each of `settings` is one positive integer a stage.

    Raises:
        ValueError: one is not.
    """
    for name, values in settings.items():
        least = 0 if name in may_be_zero else 1
        whole = isinstance(values, Sequence) and all(isinstance(value, int) for value in values)
        if not whole or len(values) != num_stages or min(values) < least:
            raise ValueError(
                f'{name} of an arch must be {num_stages} integers of at least {least}, one a '
                f'stage, got {values!r}'
            )


def check_sizes(settings: dict) -> None:
    """Check that each of `settings` is one positive integer.

    Raises:
        ValueError: one is not.
    """
    for name, value in settings.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f'{name} of an arch must be an integer of at least 1, got {value!r}')


def resolve_out_indices(out_indices: int | Sequence[int], num_outputs: int) -> tuple[int, ...]:
    """Turn `out_indices` into sorted, distinct, non-negative indices below `num_outputs`."""
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    resolved = sorted({index + num_outputs if index < 0 else index for index in given})
    if not given or resolved[0] < 0 or resolved[-1] >= num_outputs or len(resolved) < len(given):
        raise ValueError(
            f'out_indices must name distinct outputs from {-num_outputs} to {num_outputs - 1}, '
            f'got {out_indices}'
        )
    return tuple(resolved)
