"""Mask R-CNN with LION-S♮-base and a feature pyramid on COCO, 12 epochs. No paper reports it.

tools/dist_train.sh configs/lion/mask-rcnn_lion-s-natural-base_sfp_1x_coco.py 8

It starts from an ImageNet-1k checkpoint of LION-S♮-base, trained here or converted: put it at
checkpoints/lion-s-natural-base_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = './mask-rcnn_lion-d-natural-small_sfp_1x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        mask_type='Selective',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='checkpoints/lion-s-natural-base_in1k.pth'),
    ),
    neck=dict(in_channels=768),
)
