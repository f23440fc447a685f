"""LION-D♮-small by MoCo v3 on ImageNet-1k, 300 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/mocov3_lion-d-natural-small_16xb256-300e_in1k.py 16
"""

_base_ = [
    '../_base_/datasets/imagenet_two-views.py',
    '../_base_/schedules/imagenet_adamw_mocov3_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

temperature = 0.2
mlp = dict(
    type='NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    with_bias=False,
    with_last_bn=True,
    with_last_bn_affine=False,
    with_last_bias=False,
    with_avg_pool=False,
)
model = dict(
    type='MoCoV3',
    base_momentum=0.01,
    backbone=dict(type='mmvitlin.LION', arch='small', mask_type='Decay', order='S', pos_emb=True),
    neck=dict(**mlp, in_channels=384, num_layers=3),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(**mlp, in_channels=256, num_layers=2),
        loss=dict(type='CrossEntropyLoss', loss_weight=2 * temperature),
        temperature=temperature,
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
