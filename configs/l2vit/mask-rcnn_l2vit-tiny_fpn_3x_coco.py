"""Mask R-CNN with L2ViT-tiny on COCO, 36 epochs. The paper reports it; we quote no number.

tools/dist_train.sh configs/l2vit/mask-rcnn_l2vit-tiny_fpn_3x_coco.py 8

It starts from an ImageNet-1k checkpoint of L2ViT-tiny, trained here or converted: put it at
checkpoints/l2vit-tiny_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = [
    '../_base_/models/mask-rcnn_l2vit_fpn.py',
    '../_base_/datasets/coco_multi-scale-crop_instance.py',
    '../_base_/schedules/coco_adamw_3x.py',
    '../_base_/runtimes/mmdet.py',
]

model = dict(
    backbone=dict(
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/l2vit-tiny_in1k.pth', prefix='backbone.'
        ),
    )
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
