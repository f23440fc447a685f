"""mmpretrain's VisionTransformer with 0.7M parameters on real handwritten digits of 28 x 28.

python tools/train.py configs/quickstart/vit-micro_1xb64_digits-28px.py

The baseline of vit-micro_efftrain_1xb64_digits-28px.py: RandAugment, of what digits survive.
"""

_base_ = './vit-micro_1xb64_digits.py'

model = dict(backbone=dict(img_size=28))

train_pipeline = [
    dict(type='Resize', scale=28, interpolation='bicubic'),
    dict(
        type='RandAugment',
        policies=[
            dict(type='Rotate', magnitude_range=(0, 20)),
            dict(type='Shear', magnitude_range=(0, 0.3), direction='horizontal'),
            dict(type='Shear', magnitude_range=(0, 0.3), direction='vertical'),
            dict(type='Translate', magnitude_range=(0, 0.15), direction='horizontal'),
            dict(type='Translate', magnitude_range=(0, 0.15), direction='vertical'),
            dict(type='Contrast', magnitude_range=(0, 0.5)),
            dict(type='Brightness', magnitude_range=(0, 0.5)),
            dict(type='Sharpness', magnitude_range=(0, 0.9)),
        ],
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=0),
    ),
    dict(type='RandomCrop', crop_size=28, padding=2),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=28, interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
