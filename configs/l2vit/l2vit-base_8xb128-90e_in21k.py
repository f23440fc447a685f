"""L2ViT-base on ImageNet-22k, 21,841 classes, to be fine-tuned on ImageNet-1k.

tools/dist_train.sh configs/l2vit/l2vit-base_8xb128-90e_in21k.py 8

There is nothing to validate on while it trains. The paper's numbers are those after fine-tuning:
86.0 top-1 at 224 x 224 and 87.0 at 384 x 384.
"""

_base_ = [
    '../_base_/models/l2vit_classifier.py',
    '../_base_/datasets/imagenet21k_224.py',
    '../_base_/schedules/imagenet21k_adamw_90e.py',
    '../_base_/runtimes/mmpretrain.py',
]

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2),
    head=dict(num_classes=21841, in_channels=1024),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 8 GPUs x 128
