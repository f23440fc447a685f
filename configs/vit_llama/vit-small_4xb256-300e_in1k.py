"""mmpretrain's ViT-small on ImageNet-1k. The paper reports 80.1 top-1; 22.1M parameters learn.

tools/dist_train.sh configs/vit_llama/vit-small_4xb256-300e_in1k.py 4
"""

_base_ = './vit-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
