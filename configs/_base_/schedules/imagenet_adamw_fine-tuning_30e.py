# 30 epochs of AdamW, 4e-5; an average of the weights, of decay 0.9999, is evaluated and saved.
_base_ = './imagenet_adamw_300e.py'

max_epochs, warmup_epochs = 30, 5

optim_wrapper = dict(optimizer=dict(lr=4e-5, weight_decay=1e-8))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=4e-7,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='EMAHook', momentum=1e-4, update_buffers=True)]
