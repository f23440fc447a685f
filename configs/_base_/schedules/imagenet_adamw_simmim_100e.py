# SimMIM's 100 epochs of AdamW in mixed precision, 8e-4 for batches of 2048: 10 epochs of warm-up,
# then a cosine.

optim_wrapper = dict(
    type='mmvitlin.MixedPrecisionOptimWrapper',
    dtype='float16',
    optimizer=dict(type='AdamW', lr=8e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={'mask_token': dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-3, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=10, eta_min=4e-5, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100)
auto_scale_lr = dict(enable=False, base_batch_size=2048)  # 8 GPUs x 256
