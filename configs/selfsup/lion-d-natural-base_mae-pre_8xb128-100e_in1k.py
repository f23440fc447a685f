"""LION-D♮-base on ImageNet-1k after MAE, 100 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/lion-d-natural-base_mae-pre_8xb128-100e_in1k.py 8

It starts from the last checkpoint of mae_lion-d-natural-base_8xb512-300e_in1k;
`--cfg-options load_from=PATH` names another one.
"""

_base_ = [
    '../_base_/models/lion_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_pretrained_100e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(
    backbone=dict(arch='base', mask_type='Decay', order='S', pos_emb=True),
    head=dict(in_channels=768, init_cfg=dict(std=2e-5)),
)
load_from = 'work_dirs/mae_lion-d-natural-base_8xb512-300e_in1k/epoch_300.pth'
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
