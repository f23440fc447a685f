# ImageNet-1k at 224 x 224 with label maps for token labeling: those that the authors publish, or
# those that tools/generate_token_labels.py writes. A label map follows its image through flip,
# RandAugment and crop, in the original's order; each of these two draws its interpolation, bilinear
# or bicubic, for every image. Evaluation takes the middle 0.9.
_base_ = './imagenet_224.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmvitlin.TokenLabelFlip', prob=0.5, direction='horizontal'),
    dict(
        type='mmvitlin.RandomInterpolation',
        transform=dict(type='mmvitlin.TokenLabelAugment', augment=_base_.train_pipeline[3]),
    ),
    dict(
        type='mmvitlin.RandomInterpolation',
        transform=dict(type='mmvitlin.TokenLabelCrop', crop=_base_.train_pipeline[1]),
    ),
    _base_.train_pipeline[4],  # random erasing
    dict(type='PackInputs', algorithm_keys=('token_label_map', 'token_label_box')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=248, edge='short', backend='pillow', interpolation='bicubic'),
    *_base_.test_pipeline[2:],
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmvitlin.TokenLabelDataset',
        dataset=dict(type='ImageNet', data_root='data/imagenet', split='train'),
        label_root='data/imagenet/token_labels',
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
