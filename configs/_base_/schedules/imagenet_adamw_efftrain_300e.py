# EfficientTrain's 300 epochs: L2ViT's and ConvNeXt's schedule, and the curriculum. Batches of 4096:
# 512 images per GPU up to 192 x 192, then 256 and the gradients of two iterations.
_base_ = './imagenet_adamw_300e.py'

optim_wrapper = dict(accumulative_counts=2, paramwise_cfg=dict(flat_decay_mult=0.0))
custom_hooks = [
    dict(
        type='mmvitlin.EfficientTrainHook',
        input_size=(160, 160, 160, 192, 224),
        magnitude_level=(1, 3, 5, 7, 9),
        batch_size=(512, 512, 512, 512, 256),
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=4096)  # 8 GPUs x 256 x 2 iterations
