"""ViT-LLaMA-base on ImageNet-1k in data/imagenet/train.tar and val.tar, which stay packed.

tools/dist_train.sh configs/vit_llama/vit-llama-base_4xb256-300e_in1k-tar.py 4
"""

_base_ = './vit-llama-base_4xb256-300e_in1k.py'

train_dataloader = dict(dataset=dict(type='mmvitlin.ImageNetTar'))
val_dataloader = dict(dataset=dict(type='mmvitlin.ImageNetTar'))
test_dataloader = val_dataloader
