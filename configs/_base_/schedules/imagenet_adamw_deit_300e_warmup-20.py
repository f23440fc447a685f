# DeiT's 300 epochs with a linear warm-up for 20 of them.
_base_ = './imagenet_adamw_deit_300e.py'

max_epochs, warmup_epochs = 300, 20

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
