"""UPerNet with a small L2ViT on scenes of real digits: five minutes on two CPU cores.

python tools/train.py configs/quickstart/l2vit-micro_upernet_digit-scenes.py
"""

_base_ = [
    '../_base_/models/upernet_l2vit.py',
    '../_base_/datasets/digit_scenes_segmentation.py',
    '../_base_/runtimes/mmseg.py',
]

norm_cfg = dict(type='BN')  # SyncBN does not run on CPUs
# Nine pixels in ten are background: at full weight they drown what tells the digits apart.
class_weight = [0.2] + [1.0] * 10
loss_decode = dict(
    _delete_=True, type='mmvitlin.WeightedCrossEntropyLoss', class_weight=class_weight
)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(24, 48, 96, 192),
            depths=(2, 2, 2, 2),
            num_heads=(1, 2, 4, 8),
        ),
        window_size=8,
        drop_path_rate=0.0,
    ),
    decode_head=dict(
        in_channels=[24, 48, 96, 192],
        pool_scales=(2, 4),  # of a map of 4 x 4
        channels=32,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=loss_decode,
    ),
    # At stride 8 a kernel of 7 sees 56 pixels, a whole digit: this head is the first to tell digits
    # apart, and what it teaches the backbone the decode head then uses.
    auxiliary_head=dict(
        in_channels=48,
        in_index=1,
        channels=64,
        kernel_size=7,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=dict(**loss_decode, loss_weight=1.0),
    ),
)

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2500, val_interval=500)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=500, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=8)
randomness = dict(seed=0)
