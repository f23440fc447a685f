"""UPerNet with LV-ViT-medium on ADE20K at 512 x 512. The paper reports 49.4 mIoU.

tools/dist_train.sh configs/lvvit/lvvit-medium_upernet_8xb4-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of LV-ViT-medium, trained here or converted: put it at
checkpoints/lvvit-medium_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`; `model.backbone.init_cfg=None` starts
from random weights. Its positions are resized.
"""

_base_ = './lvvit-small_upernet_8xb4-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='medium',
        drop_path_rate=0.2,
        out_indices=(10, 13, 16, 19),
        init_cfg=dict(checkpoint='checkpoints/lvvit-medium_in1k.pth'),
    ),
    neck=dict(in_channels=512),
    decode_head=dict(in_channels=[512, 512, 512, 2048]),
    auxiliary_head=dict(in_channels=512),
)
