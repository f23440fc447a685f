"""Logits of a classifier at every place of its final feature map, for token labels.

A classifier pools its last feature map and classifies the mean. Here its neck and head are applied
to each place of the map, as if it were a map of one place, which gives logits (B, classes, h, w).
If all layers after the pooling are linear, the mean of these logits is the classifier's output.
"""

from torch import Tensor, nn

from mmvitlin.models.backbones.plain_vit import READOUTS


class NoFeatureMapError(ValueError):
    """A classifier that does not pool a feature map; the message names others to use."""


class DenseLogits(nn.Module):
    """mmpretrain's ImageClassifier or TimmClassifier, applied to each place of its feature map.

    A backbone that pools by itself (ConvNeXt, vision transformers that average their tokens) is
    changed to return its map, and the layers after its pooling are applied to each place. `model`
    can then no longer classify images itself.

    Raises:
        NoFeatureMapError: the model classifies by a class token, or in another way without a map.
            `forward` raises it too, if the backbone returns no map.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        if hasattr(model, 'backbone') and hasattr(model, 'head'):
            self.places = self.places_of_backbone
            self.classify = self.classify_by_head
            self.after_pooling = _open_map(model.backbone)
        elif hasattr(getattr(model, 'model', None), 'forward_head'):  # timm's
            self.places = self.places_of_timm
            self.classify = model.model.forward_head
        else:
            raise NoFeatureMapError(
                f'{type(model).__name__} has neither a backbone and a head nor the forward_head '
                "of timm's models: use an ImageClassifier or a TimmClassifier"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, classes, h, w) of images (B, 3, H, W)."""
        rows, (B, h, w) = self.places(images)
        try:
            logits = self.classify(rows)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise NoFeatureMapError(
                f'neck and head of {type(self.model).__name__} do not accept a single place of '
                f'shape {tuple(rows.shape[1:])} ({reason}): use a classifier that pools one map'
            ) from error
        if not isinstance(logits, Tensor) or logits.shape[:-1] != (B * h * w,):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise NoFeatureMapError(
                f'the head returns {given} for {B * h * w} places, expected one row of logits each'
            )
        return logits.view(B, h, w, -1).permute(0, 3, 1, 2)

    def places_of_backbone(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Return the places as input of the neck, (B h w, C, 1, 1) or (B h w, C), and B, h, w."""
        features = self.model.backbone(images)[-1]
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise _no_map(self.model.backbone, features)
        B, _, h, w = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(B * h * w, -1)
        rows = rows[:, :, None, None] if self.after_pooling is None else self.after_pooling(rows)
        return rows, (B, h, w)

    def classify_by_head(self, rows: Tensor) -> Tensor:
        """Run the neck and the head."""
        rows = (rows,)
        return self.model.head(self.model.neck(rows) if self.model.with_neck else rows)

    def places_of_timm(self, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
        """Return the places for a model of timm, whose maps may have the channels last."""
        network = self.model.model
        features = network.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim != 4:
            raise _no_map(network, features)
        if getattr(network, 'output_fmt', 'NCHW') == 'NHWC':
            B, h, w, C = features.shape
            return features.reshape(B * h * w, 1, 1, C), (B, h, w)
        B, C, h, w = features.shape
        return features.permute(0, 2, 3, 1).reshape(B * h * w, C, 1, 1), (B, h, w)


def _open_map(backbone: nn.Module) -> nn.Module | None:
    """Change a backbone that pools to return its map.

    Returns:
        The layers after its pooling; None if it does not pool.
    """
    if getattr(backbone, 'gap_before_final_norm', False):  # ConvNeXt and similar backbones
        backbone.gap_before_final_norm = False  # then the norm is applied to each place
        return nn.Identity()
    out_type = getattr(backbone, 'out_type', None)
    if out_type == 'avg_featmap':  # mmpretrain's vision transformers
        backbone.out_type = 'featmap'
        return getattr(backbone, 'ln2', nn.Identity())
    if out_type == 'avg_tokens':  # ours
        backbone.format_output = READOUTS['featmap']
        return nn.Identity()
    return None


def _no_map(network: nn.Module, features: object) -> NoFeatureMapError:
    given = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    out_type = getattr(network, 'out_type', None)
    hint = f' with out_type={out_type!r}' if out_type else ''
    return NoFeatureMapError(
        f'{type(network).__name__}{hint} returns {given}, expected a feature map (B, C, h, w): use '
        'a teacher that classifies by the mean of a feature map, such as ResNet, Swin, ConvNeXt, '
        "L2ViT, or a vision transformer with out_type 'featmap' or 'avg_featmap'"
    )
