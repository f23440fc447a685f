# Thirty epochs of AdamW on scikit-learn's digits; an average of the weights is evaluated, and as
# `raw` the weights themselves.

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=30)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=0.02, evaluate=['average', 'raw'])]
auto_scale_lr = dict(base_batch_size=64)
