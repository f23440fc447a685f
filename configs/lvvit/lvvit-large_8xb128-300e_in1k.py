"""LV-ViT-large on ImageNet-1k with token labels, as the original trains it: three moves an image.

tools/dist_train.sh configs/lvvit/lvvit-large_8xb128-300e_in1k.py 8

The paper reports it at 448 x 448, fine-tuned from here.
"""

_base_ = './lvvit-medium_8xb128-300e_in1k.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.3), head=dict(in_channels=768))
optim_wrapper = dict(optimizer=dict(lr=1e-3))

augment = dict(_base_.train_pipeline[2]['transform']['augment'], num_policies=3)
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='mmvitlin.RandomInterpolation',
        transform=dict(type='mmvitlin.TokenLabelAugment', augment=augment),
    ),
    *_base_.train_pipeline[3:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
