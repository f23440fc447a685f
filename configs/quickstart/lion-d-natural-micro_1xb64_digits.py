"""LION-D♮ with 0.5M parameters on real handwritten digits: two minutes or so on two CPU cores.

python tools/train.py configs/quickstart/lion-d-natural-micro_1xb64_digits.py

No position embedding: where a token stands shows in how its neighbours fade.
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
        arch=dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=192),
        img_size=32,
        patch_size=4,
        mask_type='Decay',
        order='S',
        drop_path_rate=0.05,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
