"""ConvNeXt-tiny on ImageNet-1k with EfficientTrain: at most 1.531 times faster than without. The
original reports 82.2 top-1.

tools/dist_train.sh configs/efficient_train/convnext-tiny_efftrain_8xb256-accum2-300e_in1k.py 8
"""

_base_ = [
    '../_base_/models/convnext_classifier.py',
    '../_base_/datasets/imagenet_224_bs256-accum2.py',
    '../_base_/schedules/imagenet_adamw_efftrain_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

custom_hooks = [
    dict(type='mmvitlin.AverageHook', momentum=1e-4, evaluate=['average', 'raw']),
    *_base_.custom_hooks,
]
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best=['accuracy/top1', 'raw/accuracy/top1'])
)
