# ImageNet-1k at 384 x 384 as DeiT fine-tunes on it: 32 images a GPU, repeated augmentation, and
# tests on the middle 384 of 438 pixels.
_base_ = './imagenet_224_repeated-aug.py'

train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=384),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=438),
    dict(_base_.test_pipeline[2], crop_size=384),
    *_base_.test_pipeline[3:],
]

train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
