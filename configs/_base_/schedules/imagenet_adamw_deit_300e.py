# DeiT's 300 epochs of AdamW, 1e-3 for batches of 1024: a cosine, for 5 epochs under a linear
# warm-up. The rate changes once an epoch and is, as in DeiT's code, that of the epoch before.
# It trains in mixed precision. Vectors do not decay, nor do class tokens and position embeddings.
# Checkpoints hold a moving average of the weights, by a decay of 0.99996, which is not evaluated.

optim_wrapper = dict(
    type='mmvitlin.MixedPrecisionOptimWrapper',
    dtype='float16',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)},
    ),
)
param_scheduler = dict(
    type='mmvitlin.WarmupCosineLR',
    convert_to_iter_based=True,
    warmup=5,
    warmup_lr=1e-6,
    min_lr=1e-5,
    per='epoch',
    lag=1,
)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=4e-5, evaluate=['raw'])]
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 4 GPUs x 256
