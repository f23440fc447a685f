# DeiT's 300 epochs of AdamW, 1e-3 for batches of 1024: linear warm-up for 5 epochs, then a cosine.
# Vectors do not decay, nor do class tokens and position embeddings. The weights' moving average, by
# a decay of 0.99996, is what is tested.
max_epochs, warmup_epochs = 300, 5

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'.cls_token': dict(decay_mult=0.0), '.pos_embed': dict(decay_mult=0.0)},
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [dict(type='EMAHook', momentum=4e-5, update_buffers=True)]
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # 4 GPUs x 256
