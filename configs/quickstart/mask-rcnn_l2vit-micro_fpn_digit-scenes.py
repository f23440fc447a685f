"""Mask R-CNN with a small L2ViT on scenes of real digits: four minutes on two CPU cores.

python tools/train.py configs/quickstart/mask-rcnn_l2vit-micro_fpn_digit-scenes.py
"""

_base_ = [
    '../_base_/models/mask-rcnn_l2vit_fpn.py',
    '../_base_/datasets/digit_scenes_detection.py',
    '../_base_/schedules/digit_scenes_adamw_4e.py',
    '../_base_/runtimes/mmdet.py',
]

channels = 64  # of the FPN and of the heads
norm_cfg = dict(type='BN')  # training from scratch needs it
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
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=channels, norm_cfg=norm_cfg, num_outs=4),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),  # 16 to 128 pixels
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(
            in_channels=channels, fc_out_channels=256, num_classes=10, reg_class_agnostic=True
        ),
        mask_roi_extractor=dict(out_channels=channels),
        mask_head=dict(
            num_convs=2,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=10,
            class_agnostic=True,
            norm_cfg=norm_cfg,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=64),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=64), rcnn=dict(max_per_img=20)),
)

val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator

default_hooks = dict(logger=dict(interval=25), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
