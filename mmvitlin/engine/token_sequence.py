"""Where token expansion enters a backbone: a step at the input of one of its layers.

All it asks of a backbone is what mmpretrain's VisionTransformer has: `layers`, through which one
sequence of tokens (B, L, C) goes; `num_extra_tokens`, how many of them stand before the patches;
`img_size`, and an output that does not need every token.

Backbones of ours (LION, ViT-LLaMA, LV-ViT) have `before_layers`, where the step stands beside the
layers: a layer that is recomputed in the backward pass then gets what it got in its own forward
pass, whatever ran since. They are told which tokens are left, and see to what goes with them:
LION's scans (`shorten_context`), the places that LV-ViT puts them back to (`after_shortening`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mmengine.model import BaseAveragedModel, BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from mmvitlin.errors import ConfigError
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
    """What shortens the sequence: a step before a layer, or a forward pre-hook of it.

    It goes by the mode of the backbone, since single layers may be frozen. A deep copy of the
    backbone takes a copy along that goes by its own mode.
    """

    backbone: nn.Module = field(repr=False)
    expansion: Expansion
    stage: Stage
    sparse_eval: bool

    def __call__(self, layer: nn.Module, inputs: tuple) -> tuple:
        """Replace the layer's inputs."""
        tokens, *rest = inputs
        return (self.shorten(tokens)[0], *rest)

    def shorten(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Shorten tokens (B, L, C); return what `expand_tokens` returns."""
        if not (self.backbone.training or self.sparse_eval):
            return tokens, None
        return expand_tokens(
            tokens, self.stage.number, *self.expansion.settings, self.backbone.num_extra_tokens
        )


def shorten_at(
    backbone: nn.Module, layer: int, expansion: Expansion, stage: Stage, sparse_eval: bool
) -> None:
    """Let a backbone go on from layer `layer` with the tokens of a stage only.

    A step that it has already, which copies of a model take along, makes way for this one.
    """
    remove_from(backbone)
    step = TokenExpansion(backbone, expansion, stage, sparse_eval)
    if hasattr(backbone, 'before_layers'):
        backbone.before_layers[layer] = step
    else:
        backbone.layers[layer].register_forward_pre_hook(step)


def remove_from(backbone: nn.Module) -> None:
    """Let a backbone go on with all tokens: undo `shorten_at`."""
    for steps in _places(backbone):
        for key in [key for key, step in steps.items() if isinstance(step, TokenExpansion)]:
            del steps[key]


def follows(backbone: nn.Module, stage: Stage) -> bool:
    """Whether a backbone goes on with the tokens of this very stage."""
    steps = [step for place in _places(backbone) for step in place.values()]
    return any(isinstance(step, TokenExpansion) and step.stage is stage for step in steps)


def _places(backbone: nn.Module) -> list[dict]:
    """Where steps may stand."""
    hooks = [layer._forward_pre_hooks for layer in backbone.layers]
    return [*hooks, getattr(backbone, 'before_layers', {})]


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside data parallel, averaged, augmented and compiled ones."""
    while True:
        if is_model_wrapper(model) or isinstance(model, (BaseAveragedModel, BaseTTAModel)):
            model = model.module
        elif hasattr(model, '_orig_mod'):  # torch.compile's
            model = model._orig_mod
        else:
            return model


def find_backbone(model: nn.Module) -> nn.Module:
    """The backbone inside data parallel, averaged, augmented and compiled models."""
    model = unwrap(model)
    backbone = getattr(model, 'backbone', model)
    return getattr(backbone, '_orig_mod', backbone)


def has_token_sequence(backbone: nn.Module) -> bool:
    """Whether a backbone has layers, and extra tokens to count."""
    layers = getattr(backbone, 'layers', None)
    return isinstance(layers, (nn.ModuleList, nn.Sequential)) and hasattr(
        backbone, 'num_extra_tokens'
    )


def check_layers(backbone: nn.Module, layer: int) -> None:
    """Check that a backbone has layers and extra tokens to count, and the layer asked for.

    Raises:
        ConfigError: it has not.
    """
    if not has_token_sequence(backbone):
        raise ConfigError(
            f'{type(backbone).__name__} has no plain token sequence: token expansion needs a '
            'backbone with `layers` and `num_extra_tokens`, as mmpretrain.VisionTransformer has'
        )
    last = len(backbone.layers) - 1
    if not 0 <= layer <= last:
        raise ConfigError(
            f'layer={layer}, and {type(backbone).__name__} has the layers 0 to {last}'
        )
