"""UPerNet with LV-ViT-small on ADE20K at 512 x 512. The paper reports 47.9 mIoU.

tools/dist_train.sh configs/lvvit/lvvit-small_upernet_8xb4-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of LV-ViT-small, trained here or converted: put it at
checkpoints/lvvit-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`; `model.backbone.init_cfg=None` starts
from random weights. Its positions are resized.
"""

_base_ = [
    '../_base_/models/upernet_lvvit.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_adamw_160k.py',
    '../_base_/runtimes/mmseg.py',
]

data_preprocessor = dict(size=_base_.crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/lvvit-small_in1k.pth', prefix='backbone.'
        ),
    ),
)
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(type='mmvitlin.MixedPrecisionOptimWrapper', dtype='float16')
train_cfg = dict(val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000, max_keep_ckpts=3))
auto_scale_lr = dict(base_batch_size=32)  # 8 GPUs x 4
