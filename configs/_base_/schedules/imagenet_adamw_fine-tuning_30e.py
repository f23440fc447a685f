# 30 epochs of AdamW, 4e-5; an average of the weights, of decay 0.9999, and the raw ones are
# evaluated.
_base_ = './imagenet_adamw_300e.py'

optim_wrapper = dict(optimizer=dict(lr=4e-5, weight_decay=1e-8))
param_scheduler = dict(warmup=5, warmup_lr=4e-8, min_lr=4e-7)
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=1e-4, evaluate=['average', 'raw'])]
