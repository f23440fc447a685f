# 150 epochs of AdamW, 2.5e-5 for batches of 8, in all layers: no warm-up, a cosine that begins an
# epoch late.
max_epochs = 150

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2.5e-5, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
    # In the backbone biases, norms, tokens and the first positions do not decay; heads do.
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={
            'backbone.cls_token': dict(decay_mult=0.0),
            'backbone.det_token': dict(decay_mult=0.0),
            'backbone.pos_embed': dict(decay_mult=0.0),
            'bbox_head': dict(decay_mult=1.0),
        },
    ),
)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=1e-7, begin=1)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)  # 8 GPUs x 1
