"""L2ViT with 0.4M parameters on real handwritten digits: a minute or two on two CPU cores.

python tools/train.py configs/quickstart/l2vit-micro_1xb64_digits.py
"""

_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_adamw_30e.py',
    '../_base_/runtimes/mmpretrain_digits.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmvitlin.L2ViT',
        arch=dict(embed_dims=(16, 32, 64, 128), depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)),
        window_size=4,
        drop_path_rate=0.05,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
