"""Heatmaps of five key points of real digits with a small L2ViT: minutes on a CPU core.

python tools/train.py configs/quickstart/td-hm_l2vit-micro_1xb64_digits.py
"""

_base_ = ['../_base_/datasets/digits_keypoints.py', '../_base_/runtimes/mmpose.py']

model = dict(
    type='TopdownPoseEstimator',
    data_preprocessor=dict(type='PoseDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='mmvitlin.L2ViT',
        arch=dict(embed_dims=(16, 32, 64, 128), depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)),
        window_size=4,
    ),
    head=dict(
        type='HeatmapHead',
        in_channels=128,
        out_channels=5,
        deconv_out_channels=(32, 32, 32),
        deconv_kernel_sizes=(4, 4, 4),
        loss=dict(type='KeypointMSELoss'),
        decoder=_base_.codec,
    ),
)

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=2)
val_cfg = dict()
test_cfg = dict()

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=2, max_keep_ckpts=2, save_best='PCK', rule='greater'),
)
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=0)
