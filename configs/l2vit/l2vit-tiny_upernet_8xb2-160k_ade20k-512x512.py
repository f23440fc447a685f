"""UPerNet with L2ViT-tiny on ADE20K at 512 x 512. The paper reports it; we quote no number.

tools/dist_train.sh configs/l2vit/l2vit-tiny_upernet_8xb2-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of L2ViT-tiny, trained here or converted: put it at
checkpoints/l2vit-tiny_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = [
    '../_base_/models/upernet_l2vit.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_adamw_160k.py',
    '../_base_/runtimes/mmseg.py',
]

data_preprocessor = dict(size=_base_.crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        drop_path_rate=0.3,
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/l2vit-tiny_in1k.pth', prefix='backbone.'
        ),
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
