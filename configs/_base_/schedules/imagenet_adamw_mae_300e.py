# MAE's 300 epochs of AdamW in mixed precision, 2.4e-3 for batches of 4096: 40 epochs of warm-up,
# then a cosine.

optim_wrapper = dict(
    type='mmvitlin.MixedPrecisionOptimWrapper',
    dtype='float16',
    optimizer=dict(type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'cls_token': dict(decay_mult=0.0), 'mask_token': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=40, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=40, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=300)
auto_scale_lr = dict(enable=False, base_batch_size=4096)  # 8 GPUs x 512
