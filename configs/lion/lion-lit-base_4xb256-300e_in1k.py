"""LION-Lit-base on ImageNet-1k: attention without decay.

The paper reports 74.7 top-1 with 86M parameters.

tools/dist_train.sh configs/lion/lion-lit-base_4xb256-300e_in1k.py 4
"""

_base_ = './lion-lit-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
