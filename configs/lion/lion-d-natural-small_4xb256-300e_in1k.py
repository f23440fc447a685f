"""LION-D♮-small on ImageNet-1k: a learned decay a head, along rows and columns.

The paper reports the base size only.

tools/dist_train.sh configs/lion/lion-d-natural-small_4xb256-300e_in1k.py 4
"""

_base_ = './lion-d-natural-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
