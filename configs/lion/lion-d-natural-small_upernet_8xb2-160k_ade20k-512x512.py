"""UPerNet with LION-D♮-small and a feature pyramid on ADE20K at 512 x 512. No paper reports it.

tools/dist_train.sh configs/lion/lion-d-natural-small_upernet_8xb2-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of LION-D♮-small, trained here or converted: put it at
checkpoints/lion-d-natural-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = [
    '../_base_/models/upernet_plain-vit.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_adamw_layer-decay_160k.py',
    '../_base_/runtimes/mmseg.py',
]

data_preprocessor = dict(size=_base_.crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmvitlin.LION',
        mask_type='Decay',
        order='S',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='checkpoints/lion-d-natural-small_in1k.pth',
            prefix='backbone.',
        ),
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
