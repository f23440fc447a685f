# 300 epochs of AdamW, 4e-3 for batches of 4096: linear warm-up for 20 epochs, then a cosine, both
# by optimizer step. The length of a training stands in train_cfg alone, that of the warm-up in
# param_scheduler.

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = dict(
    type='mmvitlin.WarmupCosineLR',
    convert_to_iter_based=True,
    warmup=20,
    warmup_lr=0.0,
    min_lr=1e-6,
    after_warmup=True,
    per='step',
)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
