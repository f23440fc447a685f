"""L2ViT-tiny on ImageNet-1k. The paper reports 83.1 top-1 with 29M parameters and 4.7 GFLOPs.

tools/dist_train.sh configs/l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py 8

Drop path is ours, the paper gives it for base only. The gradients of 4 iterations make a batch of
4096.
"""

_base_ = [
    '../_base_/models/l2vit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

optim_wrapper = dict(accumulative_counts=4)
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmvitlin.WholeStepSampler',
        sampler=dict(type='DefaultSampler', shuffle=True),
        step_size=512,  # images of a process in an optimizer step: 128 x 4
    )
)
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=1e-4, evaluate=['average', 'raw'])]
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3, save_best=['accuracy/top1', 'raw/accuracy/top1'])
)
auto_scale_lr = dict(enable=False, base_batch_size=4096)  # 8 GPUs x 128 x 4 iterations
