"""LION-D-base on ImageNet-1k: a learned decay a head.

The paper reports 77.8 top-1 with 86M parameters.

tools/dist_train.sh configs/lion/lion-d-base_4xb256-300e_in1k.py 4
"""

_base_ = './lion-d-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
