"""Swin-base on ImageNet-1k with EfficientTrain: at most 1.327 times faster than without. The
original reports 83.6 top-1.

tools/dist_train.sh configs/efficient_train/swin-base_efftrain_8xb256-accum2-300e_in1k.py 8
"""

_base_ = './swin-tiny_efftrain_8xb256-accum2-300e_in1k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=1024))
