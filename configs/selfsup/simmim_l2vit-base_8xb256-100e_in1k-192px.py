"""L2ViT-base by SimMIM on ImageNet-1k at 192 x 192, 100 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/simmim_l2vit-base_8xb256-100e_in1k-192px.py 8
"""

_base_ = [
    '../_base_/datasets/imagenet_unlabelled.py',
    '../_base_/schedules/imagenet_adamw_simmim_100e.py',
    '../_base_/runtimes/mmpretrain.py',
]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=192, crop_ratio_range=(0.67, 1.0)),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='SimMIMMaskGenerator',
        input_size=192,
        mask_patch_size=32,
        model_patch_size=4,
        mask_ratio=0.6,
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))

model = dict(
    type='SimMIM',
    backbone=dict(type='mmvitlin.SimMIML2ViT', arch='base', window_size=6, drop_path_rate=0.1),
    neck=dict(type='SimMIMLinearDecoder', in_channels=1024, encoder_stride=32),
    head=dict(
        type='SimMIMHead',
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
    ),
)
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=3))
