"""L2ViT-base on ImageNet-1k at 224 x 224 after SimMIM, 100 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/l2vit-base_simmim-pre_8xb256-100e_in1k.py 8

It starts from the last checkpoint of simmim_l2vit-base_8xb256-100e_in1k-192px;
`--cfg-options load_from=PATH` names another one.
"""

_base_ = [
    '../_base_/models/l2vit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_pretrained_100e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(backbone=dict(arch='base'), head=dict(in_channels=1024))
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(
    optimizer=dict(lr=5e-3),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-4, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=20, eta_min=1e-6, convert_to_iter_based=True),
]
load_from = 'work_dirs/simmim_l2vit-base_8xb256-100e_in1k-192px/epoch_100.pth'
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
auto_scale_lr = dict(enable=False, base_batch_size=2048)  # 8 GPUs x 256
