"""Mask R-CNN with L2ViT-base on COCO, 12 epochs. The paper reports it; we quote no number.

tools/dist_train.sh configs/l2vit/mask-rcnn_l2vit-base_fpn_1x_coco.py 8

It starts from an ImageNet-1k checkpoint of L2ViT-base, trained here or converted: put it at
checkpoints/l2vit-base_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = './mask-rcnn_l2vit-tiny_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='checkpoints/l2vit-base_in1k.pth'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
