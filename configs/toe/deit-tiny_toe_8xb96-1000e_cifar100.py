"""DeiT-tiny, trained with token expansion, fine-tuned with it on CIFAR-100. The paper reports
such runs; we quote no number.

tools/dist_train.sh configs/toe/deit-tiny_toe_8xb96-1000e_cifar100.py 8

It starts from a checkpoint of deit-tiny_toe_4xb256-300e_in1k, or the original's, converted: put it
at checkpoints/deit-tiny_toe_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`.
"""

_base_ = './deit-small_toe_8xb96-1000e_cifar100.py'

model = dict(
    backbone=dict(arch='deit-tiny', init_cfg=dict(checkpoint='checkpoints/deit-tiny_toe_in1k.pth')),
    head=dict(in_channels=192),
)
