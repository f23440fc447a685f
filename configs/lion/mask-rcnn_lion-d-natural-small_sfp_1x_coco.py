"""Mask R-CNN with LION-D♮-small and a feature pyramid on COCO, 12 epochs. No paper reports it.

tools/dist_train.sh configs/lion/mask-rcnn_lion-d-natural-small_sfp_1x_coco.py 8

It starts from an ImageNet-1k checkpoint of LION-D♮-small, trained here or converted: put it at
checkpoints/lion-d-natural-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = [
    '../_base_/models/mask-rcnn_lion_sfp.py',
    '../_base_/datasets/coco_multi-scale-crop_instance.py',
    '../_base_/schedules/coco_adamw_layer-decay_1x.py',
    '../_base_/runtimes/mmdet.py',
]

model = dict(
    backbone=dict(
        mask_type='Decay',
        order='S',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/lion-d-natural-small_in1k.pth',
            prefix='backbone.',
        ),
    )
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
