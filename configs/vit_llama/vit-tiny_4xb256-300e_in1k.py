"""mmpretrain's ViT-tiny on ImageNet-1k. The paper reports 72.1 top-1; 5.7M parameters learn.

tools/dist_train.sh configs/vit_llama/vit-tiny_4xb256-300e_in1k.py 4
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_224_repeated-aug.py',
    '../_base_/schedules/imagenet_adamw_deit_300e_warmup-20.py',
    '../_base_/runtimes/mmpretrain.py',
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
