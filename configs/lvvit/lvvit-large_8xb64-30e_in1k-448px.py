"""LV-ViT-large fine-tuned at 448 x 448 on ImageNet-1k. The paper reports 86.2 top-1.

tools/dist_train.sh configs/lvvit/lvvit-large_8xb64-30e_in1k-448px.py 8

It starts from a checkpoint of lvvit-large_8xb128-300e_in1k, or the original's, converted: put it
at checkpoints/lvvit-large_in1k.pth, or name it by `--cfg-options load_from=CHECKPOINT`. Its
positions are resized.
"""

_base_ = './lvvit-medium_8xb64-30e_in1k-448px.py'

model = dict(backbone=dict(arch='large', drop_path_rate=0.3), head=dict(in_channels=768))
load_from = 'checkpoints/lvvit-large_in1k.pth'
