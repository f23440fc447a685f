"""RetinaNet with L2ViT-small on COCO, 36 epochs. The paper reports it; we quote no number.

tools/dist_train.sh configs/l2vit/retinanet_l2vit-small_fpn_3x_coco.py 8

It starts from an ImageNet-1k checkpoint of L2ViT-small, trained here or converted: put it at
checkpoints/l2vit-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = './retinanet_l2vit-tiny_fpn_3x_coco.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='checkpoints/l2vit-small_in1k.pth'))
)
