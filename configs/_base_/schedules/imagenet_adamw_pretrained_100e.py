# 100 epochs of AdamW after MAE, in mixed precision: 2e-3 for batches of 1024, falling by 0.65 a
# layer towards the input; 5 epochs of warm-up, then a cosine.

optim_wrapper = dict(
    type='mmvitlin.MixedPrecisionOptimWrapper',
    dtype='float16',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    constructor='mmvitlin.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 8 GPUs x 128
