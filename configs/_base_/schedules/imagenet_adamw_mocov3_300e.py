# MoCo v3's 300 epochs of AdamW for transformers in mixed precision, 2.4e-3 for batches of 4096.
_base_ = './imagenet_adamw_mae_300e.py'

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1))
auto_scale_lr = dict(enable=False, base_batch_size=4096)  # 16 GPUs x 256
