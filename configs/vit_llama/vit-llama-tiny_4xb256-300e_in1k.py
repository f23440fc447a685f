"""ViT-LLaMA-tiny on ImageNet-1k. The paper reports 73.2 top-1.

Of its parameters 7.3M learn beside a frozen 202.4M.

tools/dist_train.sh configs/vit_llama/vit-llama-tiny_4xb256-300e_in1k.py 4
"""

_base_ = [
    '../_base_/models/vit-llama_classifier.py',
    '../_base_/datasets/imagenet_224_repeated-aug.py',
    '../_base_/schedules/imagenet_adamw_deit_300e_warmup-20.py',
    '../_base_/runtimes/mmpretrain.py',
]

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
