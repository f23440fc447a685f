"""Head of token labeling, which classifies every token (arXiv 2104.10858)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmvitlin.checks import in_range, positive_int
from mmvitlin.ops.mix_tokens import swap_box
from mmvitlin.ops.token_label_loss import token_label_loss
from mmvitlin.ops.token_labels import token_label_targets
from mmvitlin.registry import MODELS, register

AUX_LOGIT_WEIGHT = 0.5  # of the patches' logits, added to the class token's


@register(MODELS)
class TokenLabelHead(BaseModule):
    """Token labeling's head for mmpretrain's ImageClassifier.

    One linear layer classifies the class token, another every patch. An image's logits are those of
    its class token plus half of the maximum over its patches, per class. In training every token
    has a target: from the label map of the image if its sample has one, otherwise the label of the
    image.

    A sample's label map is `token_label_map`, a (2, K, S, S) tensor of scores and classes, and the
    sample's crop of it is `token_label_box`, (left, top, width, height) in fractions. For images
    that are padded to a multiple of the patch, the grid is slightly larger than the image, and
    targets are misplaced by less than a patch.

    Args:
        num_classes: C.
        in_channels: channels of the tokens.
        cls_weight: weight of the class token's loss.
        dense_weight: weight of the patches' loss.
        smoothing: fraction of a target's probability that goes to all classes.
        ground_truth: mix the class token's target from a label map with the image's label, whose
            weight is 0.5 if both name the same class and 0.1 if not.
        init_cfg: as in MMEngine.

    Raises:
        ValueError: sizes below 1, negative weights, smoothing outside [0, 1); features of another
            form; label maps without a box, or with labels that Mixup or CutMix mixed.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        cls_weight: float = 1.0,
        dense_weight: float = 1.0,
        smoothing: float = 0.1,
        ground_truth: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ):
        init_cfg = init_cfg or dict(type='TruncNormal', layer='Linear', std=0.02)
        super().__init__(init_cfg=init_cfg)
        positive_int('num_classes', num_classes)
        positive_int('in_channels', in_channels)
        if cls_weight < 0 or dense_weight < 0:
            raise ValueError(
                f'cls_weight and dense_weight must be at least 0, got {cls_weight} and '
                f'{dense_weight}'
            )
        in_range('smoothing', smoothing, 0, 1)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.cls_weight, self.dense_weight = cls_weight, dense_weight
        self.smoothing, self.ground_truth = smoothing, ground_truth
        self.fc = nn.Linear(in_channels, num_classes)
        self.token_fc = nn.Linear(in_channels, num_classes)

    def pre_logits(self, feats: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """Return the class token (B, in_channels) of the last output."""
        return self._last(feats)[0]

    def forward(self, feats: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """Compute logits (B, num_classes) from a backbone's outputs 'cls_and_patches'."""
        class_logits, token_logits, _ = self.classify(feats)
        return class_logits + AUX_LOGIT_WEIGHT * token_logits.flatten(1, 2).amax(1)

    def classify(
        self, feats: Sequence[tuple[Tensor, ...]]
    ) -> tuple[Tensor, Tensor, float | Tensor]:
        """Classify every token of the last of the outputs.

        Returns:
            Logits of the class token, (B, num_classes); logits of the patches, (B, rows, columns,
            num_classes), swapped back to their images; and lam, the fraction of each image that
            MixToken replaced.
        """
        class_token, patches, *mixed = self._last(feats)
        class_logits, token_logits = self.fc(class_token), self.token_fc(patches)
        if not mixed:
            return class_logits, token_logits, 0.0
        (box,) = mixed
        return class_logits, swap_box(token_logits, box), box.float().mean()

    def loss(
        self, feats: Sequence[tuple[Tensor, ...]], data_samples: Sequence[BaseDataElement]
    ) -> dict[str, Tensor]:
        """Compute the weighted losses `loss_cls` and `loss_tokens`."""
        class_logits, token_logits, lam = self.classify(feats)
        grid = token_logits.shape[1], token_logits.shape[2]
        loss_cls, loss_tokens = token_label_loss(
            class_logits,
            token_logits.flatten(1, 2),
            self.make_targets(data_samples, grid, class_logits.device),
            lam,
            self.ground_truth,
        )
        return dict(
            loss_cls=self.cls_weight * loss_cls, loss_tokens=self.dense_weight * loss_tokens
        )

    @torch.no_grad()
    def make_targets(
        self, data_samples: Sequence[BaseDataElement], grid: tuple[int, int], device: torch.device
    ) -> Tensor:
        """Make the targets (B, num_classes, 1 + 1 + rows * columns) of all tokens."""
        labels = self._image_targets(data_samples, device)
        mapped = [i for i, sample in enumerate(data_samples) if 'token_label_map' in sample]
        if not mapped:
            return labels[..., None].expand(-1, -1, 2 + grid[0] * grid[1])
        samples = [data_samples[i] for i in mapped]
        if any('gt_score' in sample and sample.gt_score.max() < 1 for sample in samples):
            raise ValueError(
                'samples have a token_label_map and a mixed gt_score: Mixup and CutMix mix images '
                'and not their label maps; leave them out of train_cfg.augments (MixToken of '
                'mmvitlin.LVViT mixes both)'
            )
        if not all('token_label_box' in sample for sample in samples):
            raise ValueError(
                'samples have a token_label_map and no token_label_box, the crop of the map that '
                'they show: let PackInputs pack both'
            )
        read = token_label_targets(
            torch.stack([sample.token_label_map for sample in samples]).to(device),
            torch.stack([sample.token_label_box for sample in samples]).to(device),
            self.num_classes,
            grid,
            self.smoothing,
            labels[mapped].argmax(1),
        )
        if len(mapped) == len(data_samples):
            return read
        targets = labels[..., None].repeat(1, 1, read.shape[2])
        targets[mapped] = read
        return targets

    def predict(
        self,
        feats: Sequence[tuple[Tensor, ...]],
        data_samples: Sequence[BaseDataElement | None] | None = None,
    ) -> list[BaseDataElement]:
        """Write scores and labels into the samples, or into new samples if there are none."""
        from mmpretrain.structures import DataSample  # the package imports without its hosts

        scores = self(feats).softmax(1)
        labels = scores.argmax(1, keepdim=True).detach()
        return [
            (DataSample() if sample is None else sample).set_pred_score(score).set_pred_label(label)
            for sample, score, label in zip(data_samples or [None] * len(scores), scores, labels)
        ]

    def _image_targets(
        self, data_samples: Sequence[BaseDataElement], device: torch.device
    ) -> Tensor:
        """Return the smoothed labels of images, (B, num_classes)."""
        if 'gt_score' in data_samples[0]:  # from Mixup or CutMix
            hard = torch.stack([sample.gt_score for sample in data_samples]).to(device).float()
        else:
            labels = torch.cat([sample.gt_label for sample in data_samples]).to(device)
            hard = F.one_hot(labels, self.num_classes).float()
        return hard * (1 - self.smoothing) + self.smoothing / self.num_classes

    def _last(self, feats: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        last = feats[-1]
        if isinstance(last, Tensor):
            raise ValueError(
                'TokenLabelHead takes the class token and the patches, got a tensor of shape '
                f"{tuple(last.shape)}: build mmvitlin.LVViT with out_type='cls_and_patches'"
            )
        width = last[0].shape[-1]
        if width != self.in_channels:
            raise ValueError(
                f'tokens have {width} channels, and in_channels of the head is {self.in_channels}: '
                f'set it to {width}'
            )
        return last
