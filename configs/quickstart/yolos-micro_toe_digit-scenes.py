"""The same with token expansion: a third of the training on 0.4 of the patches, a third on 0.7.

python tools/train.py configs/quickstart/yolos-micro_toe_digit-scenes.py
"""

_base_ = './yolos-micro_digit-scenes.py'

custom_hooks = [
    dict(
        type='mmvitlin.TokenExpansionHook',
        expansion_step=(0, 1 / 3, 2 / 3),
        keep_rate=(0.4, 0.7, 1.0),
        initialization_keep_rate=0.2,
    )
]
