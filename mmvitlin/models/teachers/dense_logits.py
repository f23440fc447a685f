"""Dense logits of a classifier, from which token labels are made.

A classifier pools its last feature map and classifies the mean. Here its neck and head classify
every spatial position of the map instead: logits (B, classes, h, w). If all layers after the
pooling are linear, the mean of the dense logits is the classifier's output.
"""

from typing import Any

from torch import Tensor, nn


class NoFeatureMapError(ValueError):
    """A classifier that does not pool a feature map."""


class DenseLogits(nn.Module):
    """mmpretrain's ImageClassifier or TimmClassifier, applied to every spatial position.

    Backbones that pool (ConvNeXt, vision transformers that average tokens) are changed in place to
    return their map, so that `model` cannot be used as a classifier afterwards.

    Raises:
        NoFeatureMapError: the model classifies by a class token or otherwise without a map; also in
            `forward`, if the backbone returns no map.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = model  # of a host, whose parts torch types as Tensor | Module
        inner: Any = getattr(model, 'model', None)
        if hasattr(model, 'backbone') and hasattr(model, 'head'):
            self.positions = self.positions_of_backbone
            self.classify = self.classify_by_head
            self.after_pooling = _open_map(self.model.backbone)
        elif hasattr(inner, 'forward_head'):  # timm's
            self.positions = self.positions_of_timm
            self.classify = inner.forward_head
        else:
            raise NoFeatureMapError(
                f'{type(model).__name__} has neither a backbone and a head nor the forward_head '
                "of timm's models: take an ImageClassifier or a TimmClassifier"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, classes, h, w)."""
        rows, (B, h, w) = self.positions(images)
        try:
            logits = self.classify(rows)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise NoFeatureMapError(
                f'neck and head of {type(self.model).__name__} do not take a single position, '
                f'{tuple(rows.shape[1:])} ({reason}): take a classifier that pools one map'
            ) from error
        if not isinstance(logits, Tensor) or logits.shape[:-1] != (B * h * w,):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise NoFeatureMapError(
                f'the head gives {given} for {B * h * w} positions, expected one row of logits each'
            )
        return logits.view(B, h, w, -1).permute(0, 3, 1, 2)

    def positions_of_backbone(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Return inputs of the neck, (B h w, C, 1, 1) or (B h w, C), and B, h, w."""
        features = self.model.backbone(images)[-1]
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise _no_map(self.model.backbone, features)
        B, _, h, w = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(B * h * w, -1)
        rows = rows[:, :, None, None] if self.after_pooling is None else self.after_pooling(rows)
        return rows, (B, h, w)

    def classify_by_head(self, rows: Tensor) -> Tensor:
        """Run neck and head."""
        maps = (rows,)
        return self.model.head(self.model.neck(maps) if self.model.with_neck else maps)

    def positions_of_timm(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Return inputs of the head of a timm model, whose maps may have their channels last."""
        network = self.model.model
        features = network.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise _no_map(network, features)
        if getattr(network, 'output_fmt', 'NCHW') == 'NHWC':
            B, h, w, C = features.shape
            return features.reshape(B * h * w, 1, 1, C), (B, h, w)
        B, C, h, w = features.shape
        return features.permute(0, 2, 3, 1).reshape(B * h * w, C, 1, 1), (B, h, w)


def _open_map(backbone: Any) -> nn.Module | None:
    """Change a backbone that pools so that it returns its map.

    Returns:
        The layer that it applies after pooling; None if it does not pool.
    """
    if getattr(backbone, 'gap_before_final_norm', False):  # ConvNeXt and similar
        backbone.gap_before_final_norm = False  # so that the norm is applied to each position
        return nn.Identity()
    out_type = getattr(backbone, 'out_type', None)
    if out_type == 'avg_featmap':  # vision transformers of mmpretrain
        backbone.out_type = 'featmap'
        return getattr(backbone, 'ln2', nn.Identity())
    if out_type == 'avg_tokens':  # plain vision transformers of this package
        backbone.format_output = backbone.readouts['featmap']
        return nn.Identity()
    return None


def _no_map(network: nn.Module, features: object) -> NoFeatureMapError:
    given = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    out_type = getattr(network, 'out_type', None)
    hint = f' with out_type={out_type!r}' if out_type else ''
    return NoFeatureMapError(
        f'{type(network).__name__}{hint} returns {given}, expected a feature map (B, C, h, w): '
        'take a teacher that classifies by the mean of a feature map, such as ResNet, Swin, '
        "ConvNeXt, L2ViT, or a vision transformer with out_type 'featmap' or 'avg_featmap'"
    )
