# DeiT's fine-tuning at a larger size: 30 epochs of AdamW, 5e-6 for batches of 512, constant after 5
# epochs of warm-up. The average of the weights, which DeiT's code has here too, is not evaluated.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(optimizer=dict(lr=5e-6, weight_decay=1e-8))
param_scheduler = dict(min_lr=5e-6)
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)
