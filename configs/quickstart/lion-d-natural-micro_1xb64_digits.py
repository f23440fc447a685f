"""LION-D♮ with 0.3M parameters on real handwritten digits: three minutes or so on a CPU core.

python tools/train.py configs/quickstart/lion-d-natural-micro_1xb64_digits.py

A patch is a pixel or so of the scan. Unlike the ImageNet configs this learns positions as well,
without which it takes far more epochs.
"""

_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_adamw_30e.py',
    '../_base_/runtimes/mmpretrain_digits.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmvitlin.LION',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=192),
        img_size=32,
        patch_size=4,
        mask_type='Decay',
        order='S',
        pos_emb=True,
        drop_path_rate=0.05,
        # By the width, 96 ** -0.5: from the usual 0.02, narrow layers hardly leave their start.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.1),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
