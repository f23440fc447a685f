"""LION-S♮ with 0.3M parameters on real handwritten digits: two minutes or so on two CPU cores.

python tools/train.py configs/quickstart/lion-s-natural-micro_1xb64_digits.py
"""

_base_ = './lion-d-natural-micro_1xb64_digits.py'

model = dict(backbone=dict(mask_type='Selective'))
