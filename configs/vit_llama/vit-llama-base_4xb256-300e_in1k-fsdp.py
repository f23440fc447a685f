"""ViT-LLaMA-base on ImageNet-1k, sharded over the GPUs (FSDP), in bfloat16.

tools/dist_train.sh configs/vit_llama/vit-llama-base_4xb256-300e_in1k-fsdp.py 4

Every process has the whole frozen block. bfloat16 needs no scaled losses, whose gradients would
have to be checked over all shards. Without the average of the weights, since that needs a copy of
the whole model.
"""

_base_ = ['./vit-llama-base_4xb256-300e_in1k.py', '../_base_/strategies/fsdp.py']

# Shards are vectors; the other settings spare the same parameters.
optim_wrapper = dict(dtype='bfloat16', paramwise_cfg=dict(flat_decay_mult=None))
custom_hooks = []
