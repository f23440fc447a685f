"""Swin-tiny on ImageNet-1k with EfficientTrain: at most 1.359 times faster than without. The
original reports 81.3 top-1.

tools/dist_train.sh configs/efficient_train/swin-tiny_efftrain_8xb256-accum2-300e_in1k.py 8
"""

_base_ = [
    '../_base_/models/swin_classifier.py',
    '../_base_/datasets/imagenet_224_bs256-accum2.py',
    '../_base_/schedules/imagenet_adamw_efftrain_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

optim_wrapper = dict(
    type='mmvitlin.MixedPrecisionOptimWrapper', dtype='float16', clip_grad=dict(max_norm=5.0)
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
