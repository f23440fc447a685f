"""DeiT-small, trained with token expansion, fine-tuned with it on CIFAR-100. The paper reports
such runs; we quote no number.

tools/dist_train.sh configs/toe/deit-small_toe_8xb96-1000e_cifar100.py 8

It starts from a checkpoint of deit-small_toe_4xb256-300e_in1k, or the original's, converted: put it
at checkpoints/deit-small_toe_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`.
"""

_base_ = './deit-small_toe_8xb96-1000e_cifar10.py'

data_preprocessor = dict(num_classes=100)
model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
test_dataloader = val_dataloader
