"""DeiT-small on ImageNet-1k with EfficientTrain and token expansion: at most 1.830 times faster.

tools/dist_train.sh configs/efficient_train/deit-small_efftrain_toe_8xb256-accum2-300e_in1k.py 8
"""

_base_ = './deit-small_efftrain_8xb256-accum2-300e_in1k.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmvitlin.TokenExpansionHook',
        expansion_step=(0, 100, 200),
        keep_rate=(0.6, 0.8, 1.0),
        initialization_keep_rate=0.3,
    ),
]
