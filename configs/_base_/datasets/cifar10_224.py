# CIFAR-10 enlarged to 224 x 224, 96 images a GPU, augmented as ImageNet-1k, without random erasing:
# repeated augmentation, and ImageNet's mean and standard deviation. Its images are RGB.
_base_ = './imagenet_224_repeated-aug.py'

data_preprocessor = dict(num_classes=10, to_rgb=False)

train_pipeline = [
    *_base_.train_pipeline[1:3],
    dict(
        _base_.train_pipeline[3],
        hparams=dict(
            pad_val=_base_.train_pipeline[3]['hparams']['pad_val'][::-1], interpolation='bicubic'
        ),
    ),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=96,
    dataset=dict(
        _delete_=True,
        type='CIFAR10',
        data_root='data/cifar10',
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=96,
    dataset=dict(
        _delete_=True,
        type='CIFAR10',
        data_root='data/cifar10',
        split='test',
        pipeline=_base_.test_pipeline[1:],
    ),
)
test_dataloader = val_dataloader
