"""L2ViT-base on ImageNet-1k. The paper reports 84.4 top-1 with 89M parameters and 15.9 GFLOPs.

tools/dist_train.sh configs/l2vit/l2vit-base_8xb128-accum4-300e_in1k.py 8
"""

_base_ = './l2vit-tiny_8xb128-accum4-300e_in1k.py'

model = dict(backbone=dict(arch='base', drop_path_rate=0.3), head=dict(in_channels=1024))
