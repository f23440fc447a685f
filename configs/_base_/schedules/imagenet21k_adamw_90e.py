# 90 epochs of AdamW, 1e-3 for batches of 1024, without validation.
_base_ = './imagenet_adamw_300e.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(warmup=5, warmup_lr=1e-6, min_lr=1e-5)
train_cfg = dict(max_epochs=90)
val_cfg = None
