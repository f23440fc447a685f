"""Where token expansion enters a backbone: a step at the input of one of its layers.

All it asks of a backbone is what mmpretrain's VisionTransformer has: `layers`, through which one
sequence of tokens (B, L, C) goes; `num_extra_tokens`, how many of them stand before the patches;
`img_size`, and an output that does not need every token. Backbones of ours whose layers take more
than tokens also have `shorten_context`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mmengine.model import BaseAveragedModel, BaseTTAModel, is_model_wrapper
from torch import nn

from mmvitlin.engine.hosts import LaunchError
from mmvitlin.ops.token_expansion import expand_tokens


@dataclass(frozen=True)
class Expansion:
    """How many tokens each of K stages keeps, and how it chooses them: see `expand_tokens`."""

    keep_rate: Sequence[float]
    initialization_keep_rate: float
    expansion_multiple_stage: int
    distance: str

    @property
    def settings(self) -> tuple:
        """The arguments that follow the stage in `expand_tokens` and `select_tokens`."""
        return (
            self.keep_rate,
            self.initialization_keep_rate,
            self.expansion_multiple_stage,
            self.distance,
        )


class Stage:
    """The stage that training is in. Deep copies of a model, such as averages, share it."""

    def __init__(self, number: int = 0):
        self.number = number

    def __deepcopy__(self, memo: dict) -> 'Stage':
        return self


@dataclass(eq=False)
class TokenExpansion:
    """A forward pre-hook of a layer that shortens the sequence.

    It goes by the mode of the backbone, since single layers may be frozen. A deep copy of the
    backbone takes a copy along that goes by its own mode.

    Where layers are given something beside the tokens, such as the scans of LION, the kept tokens
    stay in the order of the whole sequence, and the backbone says what this and the later layers
    are given instead.
    """

    backbone: nn.Module
    expansion: Expansion
    stage: Stage
    sparse_eval: bool
    context: tuple | None = None  # of the layers after, where it is not what they are given

    def __call__(self, layer: nn.Module, inputs: tuple) -> tuple | None:
        """Replace the layer's inputs."""
        self.context = None
        if not (self.backbone.training or self.sparse_eval):
            return None
        tokens, *context = inputs
        tokens, index = expand_tokens(
            tokens, self.stage.number, *self.expansion.settings, self.backbone.num_extra_tokens
        )
        if context and index is not None:
            index, places = index.sort(1)
            tokens = tokens.gather(1, places.unsqueeze(-1).expand_as(tokens))
            context = self.context = self.backbone.shorten_context(index, *context)
        return (tokens, *context)


@dataclass(eq=False)
class ShortContext:
    """A forward pre-hook of the layers after, which gives them what belongs to fewer tokens."""

    expanded: TokenExpansion

    def __call__(self, layer: nn.Module, inputs: tuple) -> tuple | None:
        """Replace what comes beside the tokens."""
        context = self.expanded.context
        return None if context is None else (inputs[0], *context)


def shorten_at(
    backbone: nn.Module, layer: int, expansion: Expansion, stage: Stage, sparse_eval: bool
) -> None:
    """Let a backbone go on from layer `layer` with the tokens of a stage only."""
    step = TokenExpansion(backbone, expansion, stage, sparse_eval)
    backbone.layers[layer].register_forward_pre_hook(step)
    if hasattr(backbone, 'shorten_context'):
        for later in backbone.layers[layer + 1 :]:
            later.register_forward_pre_hook(ShortContext(step))


def remove_from(backbone: nn.Module) -> None:
    """Let a backbone go on with all tokens: undo `shorten_at`."""
    for layer in backbone.layers:
        steps = layer._forward_pre_hooks
        for key in [k for k, v in steps.items() if isinstance(v, (TokenExpansion, ShortContext))]:
            del steps[key]


def find_backbone(model: nn.Module) -> nn.Module:
    """The backbone inside data parallel, averaged, augmented and compiled models."""
    while is_model_wrapper(model) or isinstance(model, (BaseAveragedModel, BaseTTAModel)):
        model = model.module
    model = getattr(model, '_orig_mod', model)  # torch.compile's
    backbone = getattr(model, 'backbone', model)
    return getattr(backbone, '_orig_mod', backbone)


def check_layers(backbone: nn.Module, layer: int) -> None:
    """Check that a backbone has layers and extra tokens to count, and the layer asked for.

    Raises:
        LaunchError: it has not.
    """
    layers = getattr(backbone, 'layers', None)
    if not isinstance(layers, (nn.ModuleList, nn.Sequential)) or not hasattr(
        backbone, 'num_extra_tokens'
    ):
        raise LaunchError(
            f'{type(backbone).__name__} has no plain token sequence: token expansion needs a '
            'backbone with `layers` and `num_extra_tokens`, as mmpretrain.VisionTransformer has'
        )
    if not 0 <= layer < len(layers):
        raise LaunchError(
            f'layer={layer}, and {type(backbone).__name__} has the layers 0 to {len(layers) - 1}'
        )
