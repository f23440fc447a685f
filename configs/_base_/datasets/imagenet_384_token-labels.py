# ImageNet-1k at 384 x 384 with label maps for token labeling, 64 images a GPU; evaluation takes the
# middle 0.9.
_base_ = './imagenet_224_token-labels.py'

crop = dict(_base_.train_pipeline[3]['transform']['crop'], scale=384)
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(
        type='mmvitlin.RandomInterpolation',
        transform=dict(type='mmvitlin.TokenLabelCrop', crop=crop),
    ),
    *_base_.train_pipeline[4:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=426),
    dict(_base_.test_pipeline[2], crop_size=384),
    *_base_.test_pipeline[3:],
]

train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
