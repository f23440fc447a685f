"""mmpretrain's ViT-base on ImageNet-1k. The paper reports 80.6 top-1; 86.6M parameters learn.

tools/dist_train.sh configs/vit_llama/vit-base_4xb256-300e_in1k.py 4
"""

_base_ = './vit-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='deit-base'), head=dict(in_channels=768))
