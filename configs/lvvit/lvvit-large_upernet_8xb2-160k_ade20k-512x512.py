"""UPerNet with LV-ViT-large on ADE20K at 512 x 512. The paper reports 50.9 mIoU.

tools/dist_train.sh configs/lvvit/lvvit-large_upernet_8xb2-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of LV-ViT-large, trained here or converted: put it at
checkpoints/lvvit-large_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`; `model.backbone.init_cfg=None` starts
from random weights. Its positions are resized.
"""

_base_ = './lvvit-small_upernet_8xb4-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='large',
        img_size=448,
        drop_path_rate=0.5,
        out_indices=(14, 17, 20, 23),
        init_cfg=dict(checkpoint='checkpoints/lvvit-large_in1k.pth'),
    ),
    neck=dict(in_channels=768),
    decode_head=dict(in_channels=[768, 768, 768, 2048], channels=512),
    auxiliary_head=dict(in_channels=768, channels=512),
)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2
