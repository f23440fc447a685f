"""YOLOS's head: mmdetection's DETR head with an MLP for classes as well, and no decoder."""

from collections.abc import Sequence

from mmdet.models.dense_heads import DETRHead
from torch import Tensor, nn

from mmvitlin.registry import MODELS, register

MATCHER = dict(
    assigner=dict(
        type='mmdet.HungarianAssigner',
        match_costs=[
            dict(type='mmdet.ClassificationCost', weight=1.0),
            dict(type='mmdet.BBoxL1Cost', weight=5.0, box_format='xywh'),
            dict(type='mmdet.IoUCost', iou_mode='giou', weight=2.0),
        ],
    )
)


@register(MODELS)
class YOLOSHead(DETRHead):
    """Two MLPs of three layers that read a class and a box from each detection token.

    Matching, losses and predictions are mmdetection's `DETRHead`; there are no auxiliary outputs.

    Args:
        num_classes: number of classes, without 'no object', which comes last.
        embed_dims: channels of the detection tokens.
        no_object_weight: weight of 'no object' in the classification loss.
        loss_cls_weight, loss_bbox_weight, loss_iou_weight: weights of the cross entropy, of L1 on
            (cx, cy, w, h) relative to the image, and of 1 - GIoU.
        train_cfg: dict(assigner=...), by default DETR's; the detector's `train_cfg` if it has one.
        test_cfg: dict(max_per_img=...), by default as many as there are detection tokens.
        init_cfg: as in mmengine; by default torch's initialisation of linear layers.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int,
        no_object_weight: float = 0.1,
        loss_cls_weight: float = 1.0,
        loss_bbox_weight: float = 5.0,
        loss_iou_weight: float = 2.0,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(
            num_classes=num_classes,
            embed_dims=embed_dims,
            loss_cls=dict(
                type='mmdet.CrossEntropyLoss',
                class_weight=[1.0] * num_classes + [no_object_weight],
                loss_weight=loss_cls_weight,
            ),
            loss_bbox=dict(type='mmdet.L1Loss', loss_weight=loss_bbox_weight),
            loss_iou=dict(type='mmdet.GIoULoss', loss_weight=loss_iou_weight),
            train_cfg=train_cfg or MATCHER,
            test_cfg=test_cfg or {},
            init_cfg=init_cfg,
        )
        # DETRHead sets it only for its own class, not for subclasses.
        self.bg_cls_weight = no_object_weight

    def _init_layers(self) -> None:
        self.cls_branch = mlp(self.embed_dims, self.cls_out_channels)
        self.reg_branch = mlp(self.embed_dims, 4)

    def forward(self, hidden_states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Read classes and boxes from the last of `hidden_states`.

        Args:
            hidden_states: tensors (B, T, C), or all of them as one (1, B, T, C).

        Returns:
            Logits (1, B, T, num_classes + 1) and boxes (1, B, T, 4): cx, cy, w, h relative to the
            image.
        """
        tokens = hidden_states[-1]
        return self.cls_branch(tokens)[None], self.reg_branch(tokens).sigmoid()[None]


def mlp(channels: int, out_channels: int) -> nn.Sequential:
    """Build three linear layers with ReLUs between them."""
    return nn.Sequential(
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, channels),
        nn.ReLU(),
        nn.Linear(channels, out_channels),
    )
