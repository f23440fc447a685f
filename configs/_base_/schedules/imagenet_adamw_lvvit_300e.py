# DeiT's 300 epochs at LV-ViT's rate, 1.6e-3 for batches of 1024, and ten more at the last one. The
# rate does not lag. An average of the weights, by a decay of 0.99992, is evaluated.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=1.6e-3))
param_scheduler = dict(lag=0, cooldown=10)
train_cfg = dict(max_epochs=310)
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=8e-5, evaluate=['average'])]
auto_scale_lr = dict(base_batch_size=1024)  # 8 GPUs x 128
