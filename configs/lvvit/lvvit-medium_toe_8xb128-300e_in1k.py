"""LV-ViT-medium on ImageNet-1k with token labels and token expansion: at most 1.339 times faster.

tools/dist_train.sh configs/lvvit/lvvit-medium_toe_8xb128-300e_in1k.py 8
"""

_base_ = './lvvit-medium_8xb128-300e_in1k.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmvitlin.TokenExpansionHook',
        expansion_step=(0, 100, 200),
        keep_rate=(0.4, 0.7, 1.0),
        initialization_keep_rate=0.2,
    ),
]
