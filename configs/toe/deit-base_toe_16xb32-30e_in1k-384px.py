"""DeiT-base fine-tuned at 384 x 384 with token expansion. DeiT reports 82.9 top-1 without.

tools/dist_train.sh configs/toe/deit-base_toe_16xb32-30e_in1k-384px.py 16

It starts from a checkpoint of deit-base_toe_4xb256-300e_in1k, or the original's, converted: put it
at checkpoints/deit-base_toe_in1k.pth, or name it by `--cfg-options load_from=CHECKPOINT`. Its
positions are resized.
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_384_repeated-aug.py',
    '../_base_/schedules/imagenet_adamw_deit_fine-tuning_30e.py',
    '../_base_/runtimes/mmpretrain.py',
    '../_base_/curricula/toe_deit.py',
]

model = dict(backbone=dict(arch='deit-base', img_size=384), head=dict(in_channels=768))
custom_hooks = [
    dict(type='mmvitlin.AverageHook', momentum=4e-5, evaluate=['average', 'raw']),
    dict(_base_.token_expansion, expansion_step=(0, 10, 20)),
]
load_from = 'checkpoints/deit-base_toe_in1k.pth'
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best=['accuracy/top1', 'raw/accuracy/top1'])
)
randomness = dict(seed=3407)
