"""YOLOS-base on COCO, 150 epochs. The paper reports 42.0 box AP.

tools/dist_train.sh configs/yolos/yolos-base_8xb1-150e_coco.py 8

It starts from a distilled DeiT-base of ImageNet-1k at 384 pixels, converted: put it at
checkpoints/deit-base-distilled_in1k-384px.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = './yolos-small_8xb1-150e_coco.py'

model = dict(
    backbone=dict(
        vit=dict(arch='deit-base'),
        img_size=(800, 1344),
        mid_img_size=(800, 1344),
        init_cfg=dict(checkpoint='checkpoints/deit-base-distilled_in1k-384px.pth'),
    ),
    bbox_head=dict(embed_dims=768),
)
