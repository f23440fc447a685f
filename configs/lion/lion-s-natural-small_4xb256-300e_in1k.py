"""LION-S♮-small on ImageNet-1k: a decay that each token selects, along rows and columns.

The paper reports the base size only.

tools/dist_train.sh configs/lion/lion-s-natural-small_4xb256-300e_in1k.py 4
"""

_base_ = './lion-s-natural-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
