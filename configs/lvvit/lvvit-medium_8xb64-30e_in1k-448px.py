"""LV-ViT-medium fine-tuned at 448 x 448 on ImageNet-1k. The paper reports 85.5 top-1.

tools/dist_train.sh configs/lvvit/lvvit-medium_8xb64-30e_in1k-448px.py 8

It starts from a checkpoint of lvvit-medium_8xb128-300e_in1k, or the original's, converted: put it
at checkpoints/lvvit-medium_in1k.pth, or name it by `--cfg-options load_from=CHECKPOINT`. Its
positions are resized.
"""

_base_ = './lvvit-medium_8xb64-30e_in1k-384px.py'

model = dict(backbone=dict(img_size=448))

crop = dict(_base_.train_pipeline[3]['transform']['crop'], scale=448)
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
    dict(_base_.test_pipeline[1], scale=448),
    dict(_base_.test_pipeline[2], crop_size=448),
    *_base_.test_pipeline[3:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
