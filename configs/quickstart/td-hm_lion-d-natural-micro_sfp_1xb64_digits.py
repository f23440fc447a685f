"""Heatmaps of five key points of real digits with a small LION and a feature pyramid.

python tools/train.py configs/quickstart/td-hm_lion-d-natural-micro_sfp_1xb64_digits.py

Minutes on a CPU core. The pyramid has one level, at stride 4, where the heatmaps are.
"""

_base_ = './td-hm_l2vit-micro_1xb64_digits.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvitlin.LION',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=192),
        img_size=64,
        patch_size=8,
        mask_type='Decay',
        order='S',
        pos_emb=True,
        out_type='featmap',
        # By the width, 96 ** -0.5: from the usual 0.02, narrow layers hardly leave their start.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.1),
    ),
    neck=dict(
        type='mmvitlin.SimpleFeaturePyramid',
        in_channels=96,
        out_channels=32,
        scale_factors=(2,),
        norm_cfg=dict(type='BN'),
    ),
    head=dict(in_channels=32, deconv_out_channels=None, deconv_kernel_sizes=None),
)
