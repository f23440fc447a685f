"""The same with token expansion: 4 epochs on 0.4 of the patches, 3 on 0.7, and 3 on all.

python tools/train.py configs/quickstart/yolos-micro_toe_digit-scenes.py
"""

_base_ = './yolos-micro_digit-scenes.py'

custom_hooks = [
    dict(
        type='mmvitlin.TokenExpansionHook',
        expansion_step=(0, 0.4, 0.7),
        keep_rate=(0.4, 0.7, 1.0),
        initialization_keep_rate=0.2,
    )
]
