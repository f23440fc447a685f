"""DeiT-small on ImageNet-1k, without token expansion. The paper of DeiT reports 79.8 top-1.

tools/dist_train.sh configs/toe/deit-small_4xb256-300e_in1k.py 4
"""

_base_ = './deit-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
