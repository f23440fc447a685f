"""L2ViT-base on ImageNet-1k, sharded over the GPUs (FSDP).

tools/dist_train.sh configs/l2vit/l2vit-base_8xb128-accum4-300e_in1k-fsdp.py 8

Without the average of the weights, since that needs a copy of the whole model.
"""

_base_ = ['./l2vit-base_8xb128-accum4-300e_in1k.py', '../_base_/strategies/fsdp.py']

custom_hooks = []
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
