"""Reading of `arch`, `out_indices` and other arguments that all backbones share."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class HasArchs(Protocol):
    """Backbone with named archs."""

    @property
    def arch_zoo(self) -> Mapping[str, dict]:
        """Name -> settings."""


def divided_by_heads(embed_dims: int, num_heads: int) -> None:
    """Raise ValueError unless `num_heads` divides `embed_dims`."""
    if embed_dims % num_heads:
        raise ValueError(
            f'embed_dims must be a multiple of num_heads, got {embed_dims} with {num_heads} heads'
        )


def frozen_up_to(value: int, last: int) -> int:
    """Return `frozen_stages`, or raise ValueError unless it is from -1 to `last`."""
    if not -1 <= value <= last:
        raise ValueError(f'frozen_stages must be from -1 to {last}, got {value}')
    return value


def two_sides(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Convert a side, or (H, W), to (H, W); raise ValueError unless both are positive."""
    sides = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f'{name} must be a positive side, or (H, W), got {value}')
    return sides


def resolve_arch(backbone: HasArchs, arch: str | dict) -> dict:
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


def positive_ints_per_stage(
    name: str, values: Sequence[int], num_stages: int, least: int = 1
) -> None:
    """Raise ValueError unless `values` are one integer of at least `least` per stage."""
    are_ints = isinstance(values, Sequence) and all(isinstance(value, int) for value in values)
    if not are_ints or len(values) != num_stages or min(values) < least:
        raise ValueError(
            f'{name} must be {num_stages} integers of at least {least}, one per stage, '
            f'got {values!r}'
        )


def resolve_out_indices(out_indices: int | Sequence[int], num_outputs: int) -> tuple[int, ...]:
    """Convert `out_indices` to sorted, distinct, non-negative indices below `num_outputs`."""
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    resolved = sorted({index + num_outputs if index < 0 else index for index in given})
    if not given or resolved[0] < 0 or resolved[-1] >= num_outputs or len(resolved) < len(given):
        raise ValueError(
            f'out_indices must name distinct outputs from {-num_outputs} to {num_outputs - 1}, '
            f'got {out_indices}'
        )
    return tuple(resolved)
