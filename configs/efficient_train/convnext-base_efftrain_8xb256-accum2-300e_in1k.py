"""ConvNeXt-base on ImageNet-1k with EfficientTrain: at most 1.531 times faster than without. The
original reports 83.8 top-1.

tools/dist_train.sh configs/efficient_train/convnext-base_efftrain_8xb256-accum2-300e_in1k.py 8
"""

_base_ = './convnext-tiny_efftrain_8xb256-accum2-300e_in1k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.5), head=dict(in_channels=1024))
