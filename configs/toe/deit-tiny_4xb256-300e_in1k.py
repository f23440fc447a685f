"""DeiT-tiny on ImageNet-1k, without token expansion. The paper of DeiT reports 72.2 top-1.

tools/dist_train.sh configs/toe/deit-tiny_4xb256-300e_in1k.py 4
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_224_repeated-aug.py',
    '../_base_/schedules/imagenet_adamw_deit_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best=['accuracy/top1', 'raw/accuracy/top1'])
)
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=4e-5, evaluate=['average', 'raw'])]
randomness = dict(seed=3407)
