"""ViT-LLaMA-small on ImageNet-1k. The paper reports 80.7 top-1 (95.4 top-5).

Of its parameters 25.2M learn beside a frozen 202.4M.

tools/dist_train.sh configs/vit_llama/vit-llama-small_4xb256-300e_in1k.py 4
"""

_base_ = './vit-llama-tiny_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
