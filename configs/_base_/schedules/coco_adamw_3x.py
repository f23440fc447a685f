# 36 epochs, a tenth after epochs 27 and 33.
_base_ = './coco_adamw_1x.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, end=501),
    dict(type='MultiStepLR', milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
