"""LION-S-tiny on ImageNet-1k: a decay that each token selects.

The paper reports the base size only.

tools/dist_train.sh configs/lion/lion-s-tiny_4xb256-300e_in1k.py 4
"""

_base_ = [
    '../_base_/models/lion_classifier.py',
    '../_base_/datasets/imagenet_224_repeated-aug.py',
    '../_base_/schedules/imagenet_adamw_deit_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(backbone=dict(mask_type='Selective'))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
