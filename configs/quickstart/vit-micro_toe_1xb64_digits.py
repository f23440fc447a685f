"""The same with token expansion: a third of the epochs on half the tokens, a third on 3/4 of them.

python tools/train.py configs/quickstart/vit-micro_toe_1xb64_digits.py
"""

_base_ = './vit-micro_1xb64_digits.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmvitlin.TokenExpansionHook', expansion_step=(0, 10, 20)),
]
