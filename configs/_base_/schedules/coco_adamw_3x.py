# 36 epochs, a tenth after epochs 27 and 33.
_base_ = './coco_adamw_1x.py'

max_epochs = 36

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(type='MultiStepLR', end=max_epochs, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=max_epochs)
