"""LV-ViT-small on ImageNet-1k with token labels and token expansion: at most 1.291 times faster.

tools/dist_train.sh configs/lvvit/lvvit-small_toe_8xb128-300e_in1k.py 8
"""

_base_ = ['./lvvit-small_8xb128-300e_in1k.py', '../_base_/curricula/toe_lvvit.py']

custom_hooks = [*_base_.custom_hooks, _base_.token_expansion]
