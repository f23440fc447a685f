"""The smallest classifier, detector and segmentor that have a backbone of ours."""

from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

WIDTHS = (8, 16, 24, 32)
L2VIT = dict(
    type='mmvitlin.L2ViT',
    arch=dict(embed_dims=WIDTHS, depths=(2, 1, 2, 1), num_heads=(1, 2, 2, 4)),
    window_size=3,
)


def build(scope: str, **backbone) -> nn.Module:
    """Build the tiny model of a host, with `backbone` in the place of L2VIT's settings."""
    cfg = MODELS_OF[scope](**backbone)
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(cfg)


def classifier(**backbone) -> ConfigDict:
    return ConfigDict(
        type='ImageClassifier',
        backbone={**L2VIT, **backbone},
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=WIDTHS[-1]),
    )


def mask_rcnn(**backbone) -> ConfigDict:
    """Return mmdet's Mask R-CNN, eight channels wide after the backbone."""
    import mmdet

    path = Path(mmdet.__file__).parent / '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py'
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(
        {
            'model.neck.out_channels': 8,
            'model.rpn_head.in_channels': 8,
            'model.rpn_head.feat_channels': 8,
            'model.roi_head.bbox_roi_extractor.out_channels': 8,
            'model.roi_head.bbox_head.in_channels': 8,
            'model.roi_head.bbox_head.fc_out_channels': 16,
            'model.roi_head.mask_roi_extractor.out_channels': 8,
            'model.roi_head.mask_head.in_channels': 8,
            'model.roi_head.mask_head.conv_out_channels': 8,
        }
    )
    settings = {**L2VIT, 'out_indices': (0, 1, 2, 3), **backbone}
    cfg.model.backbone = settings
    cfg.model.neck.in_channels = list(settings.get('arch', L2VIT['arch'])['embed_dims'])
    return cfg.model


def upernet(**backbone) -> ConfigDict:
    return ConfigDict(
        type='EncoderDecoder',
        backbone={**L2VIT, 'out_indices': (0, 1, 2, 3), **backbone},
        decode_head=dict(
            type='UPerHead',
            in_channels=list(WIDTHS),
            in_index=[0, 1, 2, 3],
            channels=8,
            num_classes=3,
            norm_cfg=dict(type='BN'),
            align_corners=False,
        ),
        test_cfg=dict(mode='whole'),
    )


MODELS_OF = {'mmpretrain': classifier, 'mmdet': mask_rcnn, 'mmseg': upernet}
