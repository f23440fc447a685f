"""L2ViT-small on ImageNet-1k. The paper reports 84.1 top-1 with 50M parameters and 9.0 GFLOPs.

tools/dist_train.sh configs/l2vit/l2vit-small_8xb128-accum4-300e_in1k.py 8

Drop path is ours, the paper gives it for base only.
"""

_base_ = './l2vit-tiny_8xb128-accum4-300e_in1k.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.2))
