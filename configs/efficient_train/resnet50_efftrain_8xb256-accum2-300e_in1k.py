"""ResNet-50 on ImageNet-1k with EfficientTrain: at most 1.531 times faster than without.

tools/dist_train.sh configs/efficient_train/resnet50_efftrain_8xb256-accum2-300e_in1k.py 8
"""

_base_ = [
    '../_base_/models/resnet50_classifier.py',
    '../_base_/datasets/imagenet_224_bs256-accum2.py',
    '../_base_/schedules/imagenet_adamw_efftrain_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
