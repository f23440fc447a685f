"""DeiT-tiny on ImageNet-1k with EfficientTrain: at most 1.593 times faster than without.

tools/dist_train.sh configs/efficient_train/deit-tiny_efftrain_8xb256-accum2-300e_in1k.py 8

Batches of 4096: 512 images per GPU up to 192 x 192, then 256 and the gradients of two iterations.
"""

_base_ = [
    '../_base_/models/deit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_adamw_300e.py',
    '../_base_/runtimes/mmpretrain.py',
]

train_dataloader = dict(
    batch_size=256,
    sampler=dict(
        _delete_=True,
        type='mmvitlin.WholeStepSampler',
        sampler=dict(type='DefaultSampler', shuffle=True),
        step_size=512,  # images of a process in an optimiser step: 256 x 2
    ),
)
val_dataloader = dict(batch_size=256)
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='mmvitlin.MixedPrecisionOptimWrapper',
    dtype='float16',
    accumulative_counts=2,
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)},
    ),
)
custom_hooks = [
    dict(
        type='mmvitlin.EfficientTrainHook',
        input_size=(160, 160, 160, 192, 224),
        magnitude_level=(1, 3, 5, 7, 9),
        batch_size=(512, 512, 512, 512, 256),
    ),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
auto_scale_lr = dict(enable=False, base_batch_size=4096)  # 8 GPUs x 256 x 2 iterations
