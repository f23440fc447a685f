"""YOLOS-small on COCO, 150 epochs. The paper reports 36.1 box AP.

tools/dist_train.sh configs/yolos/yolos-small_8xb1-150e_coco.py 8

It starts from a DeiT-small of ImageNet-1k, trained here or converted: put it at
checkpoints/deit-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = [
    '../_base_/models/yolos.py',
    '../_base_/datasets/coco_whole-patches_detection.py',
    '../_base_/schedules/coco_adamw_yolos_150e.py',
    '../_base_/runtimes/mmdet.py',
]

model = dict(
    backbone=dict(
        vit=dict(arch='deit-small'),
        img_size=(512, 864),
        mid_img_size=(512, 864),
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/deit-small_in1k.pth', prefix='backbone.'
        ),
    ),
    bbox_head=dict(embed_dims=384),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
