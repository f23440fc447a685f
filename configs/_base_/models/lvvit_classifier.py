# LV-ViT-small with its two heads for ImageNet-1k's 1000 classes: images mix by their tokens
# (MixToken), so neither Mixup nor CutMix.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmvitlin.LVViT', arch='small', drop_path_rate=0.1),
    head=dict(
        type='mmvitlin.TokenLabelHead',
        num_classes=1000,
        in_channels=384,
        cls_weight=1.0,
        dense_weight=1.0,
        smoothing=0.1,
    ),
)
