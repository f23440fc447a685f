"""The same with token expansion: a third of the epochs on 0.4 of the tokens, a third on 0.7.

python tools/train.py configs/quickstart/lvvit-micro_toe_1xb64_digits.py
"""

_base_ = './lvvit-micro_1xb64_digits.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmvitlin.TokenExpansionHook',
        expansion_step=(0, 10, 20),
        keep_rate=(0.4, 0.7, 1.0),
        initialization_keep_rate=0.2,
    ),
]
