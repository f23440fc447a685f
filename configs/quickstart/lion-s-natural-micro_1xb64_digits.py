"""LION-S♮ with 0.3M parameters on real handwritten digits: three minutes or so on a CPU core.

python tools/train.py configs/quickstart/lion-s-natural-micro_1xb64_digits.py
"""

_base_ = './lion-d-natural-micro_1xb64_digits.py'

model = dict(backbone=dict(mask_type='Selective'))
