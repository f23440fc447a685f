# 90 epochs of AdamW, 1e-3 for batches of 1024, without validation.
_base_ = './imagenet_adamw_300e.py'

max_epochs, warmup_epochs = 90, 5

optim_wrapper = dict(optimizer=dict(lr=1e-3))
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
train_cfg = dict(max_epochs=max_epochs)
val_cfg = None
