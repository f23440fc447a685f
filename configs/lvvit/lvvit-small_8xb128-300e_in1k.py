"""LV-ViT-small on ImageNet-1k with token labels. The paper reports 83.3 top-1.

tools/dist_train.sh configs/lvvit/lvvit-small_8xb128-300e_in1k.py 8
"""

_base_ = [
    '../_base_/models/lvvit_classifier.py',
    '../_base_/datasets/imagenet_224_token-labels.py',
    '../_base_/schedules/imagenet_adamw_lvvit_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=10, save_best='accuracy/top1'))
