"""ViT-LLaMA-base on ImageNet-1k. The paper reports 81.7 top-1.

Of its parameters 92.9M learn beside a frozen 202.4M.

tools/dist_train.sh configs/vit_llama/vit-llama-base_4xb256-300e_in1k.py 4
"""

_base_ = './vit-llama-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
