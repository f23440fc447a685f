"""LV-ViT-small fine-tuned at 384 x 384 on ImageNet-1k. The paper reports 84.4 top-1.

tools/dist_train.sh configs/lvvit/lvvit-small_8xb64-30e_in1k-384px.py 8

It starts from a checkpoint of lvvit-small_8xb128-300e_in1k, or the original's, converted: put it
at checkpoints/lvvit-small_in1k.pth, or name it by `--cfg-options load_from=CHECKPOINT`. Its
positions are resized.
"""

_base_ = [
    '../_base_/models/lvvit_classifier.py',
    '../_base_/datasets/imagenet_384_token-labels.py',
    '../_base_/schedules/imagenet_adamw_deit_fine-tuning_30e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(backbone=dict(img_size=384))
param_scheduler = dict(lag=0)
custom_hooks = []  # no average of the weights
load_from = 'checkpoints/lvvit-small_in1k.pth'
default_hooks = dict(checkpoint=dict(max_keep_ckpts=10, save_best='accuracy/top1'))
