"""DeiT-small on ImageNet-1k with EfficientTrain: at most 1.562 times faster than without.

tools/dist_train.sh configs/efficient_train/deit-small_efftrain_8xb256-accum2-300e_in1k.py 8
"""

_base_ = './deit-tiny_efftrain_8xb256-accum2-300e_in1k.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
