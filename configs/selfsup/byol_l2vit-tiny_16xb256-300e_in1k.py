"""L2ViT-tiny by BYOL on ImageNet-1k, 300 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/byol_l2vit-tiny_16xb256-300e_in1k.py 16
"""

_base_ = [
    '../_base_/datasets/imagenet_two-views.py',
    '../_base_/schedules/imagenet_adamw_mocov3_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

mlp = dict(
    type='NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
)
model = dict(
    type='BYOL',
    base_momentum=0.01,
    backbone=dict(type='mmvitlin.L2ViT', arch='tiny'),
    neck=dict(**mlp, in_channels=768, with_avg_pool=True),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(**mlp, in_channels=256, with_avg_pool=False),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
