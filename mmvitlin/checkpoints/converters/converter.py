"""The form of a converter: all that one system of checkpoints needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmvitlin.registry import MODELS

Weights = Mapping[str, Tensor]  # names -> tensors


def model_class(name: str) -> Any:
    """Return the class of a model of the package by its name."""
    found = MODELS.get(name)
    assert found is not None, name
    return found


def build_linear_head(weights: Weights, num_classes: int, width: int) -> nn.Module:
    """Build mmpretrain's linear head, its linear layer under 'fc'."""
    return nn.ModuleDict({'fc': nn.Linear(width, num_classes)})


def count_rows(weights: Weights) -> int:
    """Return the rows of the first weight of mmpretrain's head."""
    return next((len(value) for name, value in weights.items() if name.startswith('head.')), 1000)


@dataclass(frozen=True)
class Converter:
    """Converter of an original's checkpoints, one per system.

    Args:
        name: the system, as tools/convert_checkpoint.py takes it.
        backbones: the types in configs whose weights it converts.
        rename: the original's names -> ours, on the same tensors; ours stay.
        read_arch: renamed weights -> `arch` of the backbone.
        arch_zoo: the archs that have a name: name -> settings.
        build_backbone: builds the backbone of an arch for renamed weights.
        head: name of the head in the model.
        build_head: builds the head for renamed weights, of so many classes and channels.
        count_classes: renamed weights -> number of classes.
        read_sizes: renamed weights, the content of the file, and sizes that the user gives -> image
            sizes that leave no trace in weights, further arguments of `build_backbone`; None where
            there are none.
        guessed: settings of an arch that leave no trace in weights.
    """

    name: str
    backbones: tuple[str, ...]
    rename: Callable[[Weights], dict[str, Tensor]]
    read_arch: Callable[[Weights], dict]
    arch_zoo: Callable[[], Mapping[str, dict]]
    build_backbone: Callable[..., nn.Module]
    head: str = 'head'
    build_head: Callable[[Weights, int, int], nn.Module] = build_linear_head
    count_classes: Callable[[Weights], int] = count_rows
    read_sizes: Callable[[Weights, Any, Mapping[str, Sequence[int] | None]], dict] | None = None
    guessed: tuple[str, ...] = ()
