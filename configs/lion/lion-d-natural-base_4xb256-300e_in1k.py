"""LION-D♮-base on ImageNet-1k: a learned decay a head, along rows and columns.

The paper reports 80.2 top-1 with 86M parameters.

tools/dist_train.sh configs/lion/lion-d-natural-base_4xb256-300e_in1k.py 4
"""

_base_ = './lion-d-natural-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
