# DeiT's fine-tuning on small data sets: 1000 epochs of SGD, 0.01 for batches of 768, and otherwise
# its schedule for ImageNet.
_base_ = './imagenet_adamw_deit_300e.py'

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='SGD', lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
)
train_cfg = dict(max_epochs=1000)
auto_scale_lr = dict(base_batch_size=768)
