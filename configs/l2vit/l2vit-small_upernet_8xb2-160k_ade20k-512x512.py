"""UPerNet with L2ViT-small on ADE20K at 512 x 512. The paper reports it; we quote no number.

tools/dist_train.sh configs/l2vit/l2vit-small_upernet_8xb2-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of L2ViT-small, trained here or converted: put it at
checkpoints/l2vit-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = './l2vit-tiny_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='checkpoints/l2vit-small_in1k.pth'))
)
