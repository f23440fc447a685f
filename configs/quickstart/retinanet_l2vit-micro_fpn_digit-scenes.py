"""RetinaNet with a small L2ViT on scenes of real digits: two to three minutes on two CPU cores.

python tools/train.py configs/quickstart/retinanet_l2vit-micro_fpn_digit-scenes.py
"""

_base_ = [
    '../_base_/models/retinanet_l2vit_fpn.py',
    '../_base_/datasets/digit_scenes_detection.py',
    '../_base_/schedules/digit_scenes_adamw_4e.py',
    '../_base_/runtimes/mmdet.py',
]

channels = 64  # of the FPN and of the head
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=(24, 48, 96, 192),
            depths=(2, 2, 2, 2),
            num_heads=(1, 2, 4, 8),
        ),
        window_size=4,
        drop_path_rate=0.0,
    ),
    neck=dict(
        in_channels=[48, 96, 192], out_channels=channels, norm_cfg=dict(type='BN'), num_outs=3
    ),
    bbox_head=dict(
        num_classes=10,
        in_channels=channels,
        stacked_convs=2,
        feat_channels=channels,
        # One head reads all levels, whose statistics differ: no BN here.
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(octave_base_scale=2, strides=[8, 16, 32]),  # 16 to 102 pixels
    ),
    test_cfg=dict(max_per_img=20),
)

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
