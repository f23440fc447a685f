# mmpretrain's plain ViT-tiny, as ViT-LLaMA without LLaMA: the same sizes, initialisation and
# training.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-tiny',
        patch_size=16,
        drop_path_rate=0.1,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
