"""DeiT-small, trained with token expansion, fine-tuned with it on CIFAR-10. The paper reports
such runs; we quote no number.

tools/dist_train.sh configs/toe/deit-small_toe_8xb96-1000e_cifar10.py 8

It starts from a checkpoint of deit-small_toe_4xb256-300e_in1k, or the original's, converted: put it
at checkpoints/deit-small_toe_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`.
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/cifar10_224.py',
    '../_base_/schedules/cifar_sgd_deit_1000e.py',
    '../_base_/runtimes/mmpretrain.py',
    '../_base_/curricula/toe_deit.py',
]

model = dict(
    backbone=dict(
        arch='deit-small',
        drop_path_rate=0.0,
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/deit-small_toe_in1k.pth', prefix='backbone.'
        ),
    ),
    head=dict(num_classes=10, in_channels=384),
)
custom_hooks = [
    dict(type='mmvitlin.AverageHook', momentum=4e-5, evaluate=['average', 'raw']),
    dict(_base_.token_expansion, expansion_step=(0, 1 / 3, 2 / 3)),
]
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best=['accuracy/top1', 'raw/accuracy/top1'])
)
randomness = dict(seed=3407)
