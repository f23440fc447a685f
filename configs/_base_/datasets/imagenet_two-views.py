# ImageNet-1k for contrastive pre-training: two views of each image, 256 images a GPU, as MoCo v3
# draws them for transformers. The first is always blurred, the second sometimes solarised instead.
_base_ = './imagenet_unlabelled.py'

crop = dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.08, 1.0), backend='pillow')
jitter = dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
colours = [
    dict(type='RandomApply', transforms=[jitter], prob=0.8),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.114, 0.587, 0.2989),
    ),
]
blur = dict(type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf')
flip = dict(type='RandomFlip', prob=0.5)
views = [
    [crop, *colours, dict(**blur, prob=1.0), flip],
    [crop, *colours, dict(**blur, prob=0.1), dict(type='Solarize', thr=128, prob=0.2), flip],
]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiView', num_views=[1, 1], transforms=views),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
