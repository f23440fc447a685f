"""DeiT-small on ImageNet-1k with token expansion: at most 1.306 times faster than without.

tools/dist_train.sh configs/toe/deit-small_toe_4xb256-300e_in1k.py 4
"""

_base_ = ['./deit-small_4xb256-300e_in1k.py', '../_base_/curricula/toe_deit.py']

custom_hooks = [*_base_.custom_hooks, _base_.token_expansion]
