"""Forward pre-hook that reduces the tokens of a plain vision transformer at one of its layers.

A backbone needs what mmpretrain's and timm's VisionTransformer have: `layers`, or timm's `blocks`,
through which one sequence of tokens (B, L, C) goes; `num_extra_tokens` or `num_prefix_tokens`, the
number of prefix tokens; and an output that does not need every token.

Backbones of this package (LION, ViT-LLaMA, LV-ViT) have `before_layers` instead of a forward
pre-hook, for two reasons. With gradient checkpointing a layer is recomputed in the backward pass
and must get the tokens of its own forward pass, even if other passes ran in between. And the
backbone needs the keep indices: LION for its scans, LV-ViT to restore positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmvitlin.curricula.model_parts import detach, layers_of, prefix_tokens_of
from mmvitlin.errors import ConfigError
from mmvitlin.ops.token_expansion import expand_tokens

ATTRIBUTE = 'token_expansion'  # of a backbone: the reduction attached to it


@dataclass(frozen=True)
class Expansion:
    """Settings of token expansion: see `expand_tokens`.

    Attributes:
        layer: the layer whose input is reduced, from 0.
    """

    keep_rate: Sequence[float]
    initialization_keep_rate: float
    expansion_multiple_stage: int
    distance: str
    layer: int = 1

    @property
    def settings(self) -> tuple[Sequence[float], float, int, str]:
        """The arguments after the stage in `expand_tokens` and `select_tokens`."""
        return (
            self.keep_rate,
            self.initialization_keep_rate,
            self.expansion_multiple_stage,
            self.distance,
        )


@dataclass
class Entry:
    """Handle of an entry in `before_layers`, like torch's handle of a forward hook."""

    entries: dict
    key: int

    def remove(self) -> None:
        """Remove the entry."""
        self.entries.pop(self.key, None)


class TokenReduction:
    """Reduces tokens to those of a stage, in training only unless `sparse_eval`.

    Training mode is that of the backbone, since single layers may be frozen.

    Attributes:
        stage: 0, all tokens, to K. A deep copy of the backbone keeps a stage of its own.
        handle: removes the reduction.
    """

    def __init__(self, backbone: nn.Module, expansion: Expansion, sparse_eval: bool = False):
        self.backbone = backbone
        self.expansion, self.sparse_eval = expansion, sparse_eval
        self.stage = 0
        self.handle: Entry | RemovableHandle | None = None

    def __call__(self, layer: nn.Module, inputs: tuple) -> tuple:
        """Replace the inputs of a layer, as a forward pre-hook."""
        tokens, *rest = inputs
        return (self.shorten(tokens)[0], *rest)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.expansion}, stage={self.stage})'

    def shorten(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Reduce tokens (B, L, C); return what `expand_tokens` returns."""
        if not (self.backbone.training or self.sparse_eval):
            return tokens, None
        prefix = prefix_tokens_of(self.backbone)
        assert prefix is not None  # `check_layers` refuses such a backbone
        return expand_tokens(tokens, self.stage, *self.expansion.settings, prefix)


def attach_reduction(
    backbone: nn.Module, expansion: Expansion, sparse_eval: bool = False
) -> TokenReduction:
    """Attach token reduction to a backbone, replacing the one that it has.

    Raises:
        ConfigError: the backbone has no plain token sequence, or not the layer.
    """
    layers = check_layers(backbone, expansion.layer)
    detach(backbone, ATTRIBUTE)
    reduction = TokenReduction(backbone, expansion, sparse_eval)
    if hasattr(backbone, 'before_layers'):
        entries: Any = backbone.before_layers
        entries[expansion.layer] = reduction
        reduction.handle = Entry(entries, expansion.layer)
    else:
        reduction.handle = layers[expansion.layer].register_forward_pre_hook(reduction)
    setattr(backbone, ATTRIBUTE, reduction)
    return reduction


def check_layers(backbone: nn.Module, layer: int) -> nn.ModuleList | nn.Sequential:
    """Return the layers of a backbone that has a plain token sequence and this layer.

    Raises:
        ConfigError: it has not.
    """
    name, layers = type(backbone).__name__, layers_of(backbone)
    if layers is None:
        raise ConfigError(
            f'{name} has no plain token sequence: token expansion needs a backbone with `layers` '
            'and `num_extra_tokens`, as mmpretrain.VisionTransformer has, or with `blocks` and '
            '`num_prefix_tokens`, as timm has'
        )
    last = len(layers) - 1
    if not 0 <= layer <= last:
        raise ConfigError(f'layer={layer}, and {name} has the layers 0 to {last}')
    return layers
