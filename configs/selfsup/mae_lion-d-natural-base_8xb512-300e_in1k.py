"""LION-D♮-base as a masked autoencoder on ImageNet-1k, 300 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/mae_lion-d-natural-base_8xb512-300e_in1k.py 8
"""

_base_ = [
    '../_base_/datasets/imagenet_unlabelled.py',
    '../_base_/schedules/imagenet_adamw_mae_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(
    type='MAE',
    backbone=dict(
        type='mmvitlin.MAELION',
        arch='base',
        mask_type='Decay',
        order='S',
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        embed_dim=768,
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
