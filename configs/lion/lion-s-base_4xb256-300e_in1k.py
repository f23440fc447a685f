"""LION-S-base on ImageNet-1k: a decay that each token selects.

The paper reports 76.3 top-1 with 86M parameters.

tools/dist_train.sh configs/lion/lion-s-base_4xb256-300e_in1k.py 4
"""

_base_ = './lion-s-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
