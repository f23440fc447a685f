"""DeiT-small on ImageNet-1k with EfficientTrain and token expansion: at most 1.830 times faster.

tools/dist_train.sh configs/efficient_train/deit-small_efftrain_toe_8xb256-accum2-300e_in1k.py 8
"""

_base_ = ['./deit-small_efftrain_8xb256-accum2-300e_in1k.py', '../_base_/curricula/toe_efftrain.py']

custom_hooks = [*_base_.custom_hooks, _base_.token_expansion]
