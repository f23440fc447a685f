"""mmpretrain's VisionTransformer with 0.7M parameters on real handwritten digits.

python tools/train.py configs/quickstart/vit-micro_1xb64_digits.py

The baseline of vit-micro_toe_1xb64_digits.py.
"""

_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_adamw_30e.py',
    '../_base_/runtimes/mmpretrain_digits.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=96, num_layers=6, num_heads=3, feedforward_channels=384),
        img_size=32,
        patch_size=4,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

# Three epochs of warm-up: after one alone, softmax attention ended a point or two lower.
param_scheduler = dict(
    _delete_=True,
    type='mmvitlin.WarmupCosineLR',
    convert_to_iter_based=True,
    warmup=3,
    warmup_lr=2e-5,
    min_lr=1e-5,
    after_warmup=True,
)
