"""ViT-LLaMA-small with patches of 32 on ImageNet-1k, an option of the original.

No paper reports it.

tools/dist_train.sh configs/vit_llama/vit-llama-small-p32_4xb256-300e_in1k.py 4
"""

_base_ = './vit-llama-small_4xb256-300e_in1k.py'

model = dict(backbone=dict(patch_size=32))
