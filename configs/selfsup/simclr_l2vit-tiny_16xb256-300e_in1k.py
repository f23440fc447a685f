"""L2ViT-tiny by SimCLR on ImageNet-1k, 300 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/simclr_l2vit-tiny_16xb256-300e_in1k.py 16
"""

_base_ = [
    '../_base_/datasets/imagenet_two-views.py',
    '../_base_/schedules/imagenet_adamw_mocov3_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(
    type='SimCLR',
    backbone=dict(type='mmvitlin.L2ViT', arch='tiny'),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=2048,
        out_channels=128,
        num_layers=2,
        with_avg_pool=True,
    ),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.1),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
