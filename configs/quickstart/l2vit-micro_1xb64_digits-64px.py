"""The same on digits of 64 x 64, so that its last map has 2 x 2 places: a teacher of token labels.

python tools/train.py configs/quickstart/l2vit-micro_1xb64_digits-64px.py
"""

_base_ = './l2vit-micro_1xb64_digits.py'

train_pipeline = [
    dict(type='Resize', scale=64, interpolation='bicubic'),
    dict(type='Rotate', magnitude_range=(0.0, 15.0), magnitude_std='inf', prob=1.0, pad_val=0),
    dict(type='RandomCrop', crop_size=64, padding=6),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=64, interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
