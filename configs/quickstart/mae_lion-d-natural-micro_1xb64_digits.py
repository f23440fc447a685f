"""LION-D♮ with 0.3M parameters learns from digits without labels, as a masked autoencoder.

python tools/train.py configs/quickstart/mae_lion-d-natural-micro_1xb64_digits.py

Three minutes or so on a CPU core. The checkpoint starts lion-d-natural-micro_1xb64_digits.py with
--cfg-options load_from=work_dirs/mae_lion-d-natural-micro_1xb64_digits/epoch_30.pth.
"""

_base_ = [
    '../_base_/datasets/digits_unlabelled.py',
    '../_base_/schedules/digits_adamw_unlabelled_30e.py',
]

model = dict(
    type='MAE',
    backbone=dict(
        type='mmvitlin.MAELION',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=192),
        img_size=32,
        patch_size=4,
        mask_type='Decay',
        order='S',
        # By the width, 96 ** -0.5: from the usual 0.02, narrow layers hardly leave their start.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.1),
    ),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=64,
        patch_size=4,
        embed_dim=96,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4,
    ),
    head=dict(
        type='MAEPretrainHead',
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L2'),
    ),
)
