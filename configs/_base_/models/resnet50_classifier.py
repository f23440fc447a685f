# ResNet-50 for ImageNet-1k's 1000 classes with torchvision's initial weights and, as the
# transformers, mixup or CutMix on every batch, evenly, and smoothed labels.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=50, zero_init_residual=False),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=None,  # torch's
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
