"""L2ViT-base, ImageNet-22k -> 1k at 224 x 224. The paper reports 86.0 top-1.

tools/dist_train.sh configs/l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k.py 8

It starts from a checkpoint of l2vit-base_8xb128-90e_in21k, or the original's, with the 1000 rows
of its head that FILE lists; `--cfg-options load_from=PATH` names another one:

python tools/convert_checkpoint.py l2vit PRETRAINED checkpoints/l2vit-base_in21k_in1k-head.pth \
    --class-index FILE

To test a fine-tuned checkpoint, trained here or converted:

tools/dist_test.sh configs/l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k.py CHECKPOINT 8
"""

_base_ = [
    '../_base_/models/l2vit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_fine-tuning_30e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2),
    head=dict(in_channels=1024),
)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(accumulative_counts=2)
load_from = 'checkpoints/l2vit-base_in21k_in1k-head.pth'
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best=['accuracy/top1', 'raw/accuracy/top1'])
)
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 8 GPUs x 64 x 2 iterations
