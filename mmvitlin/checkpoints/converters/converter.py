"""The form of a converter: all that one system of checkpoints needs."""

from collections.abc import Callable, Mapping
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


@dataclass(frozen=True)
class Converter:
    """Converter of an original's classifiers, one per system.

    Args:
        name: the system, as tools/convert_checkpoint.py takes it.
        backbones: the types in configs whose weights it converts.
        rename: the original's names -> ours, on the same tensors; ours stay.
        read_arch: renamed weights -> `arch` of the backbone.
        arch_zoo: the archs that have a name: name -> settings.
        build_backbone: builds the backbone of an arch for renamed weights.
        build_head: builds the head for renamed weights, of so many classes and channels.
        guessed: settings of an arch that leave no trace in weights.
    """

    name: str
    backbones: tuple[str, ...]
    rename: Callable[[Weights], dict[str, Tensor]]
    read_arch: Callable[[Weights], dict]
    arch_zoo: Callable[[], Mapping[str, dict]]
    build_backbone: Callable[[str | dict, Weights], nn.Module]
    build_head: Callable[[Weights, int, int], nn.Module] = build_linear_head
    guessed: tuple[str, ...] = ()
