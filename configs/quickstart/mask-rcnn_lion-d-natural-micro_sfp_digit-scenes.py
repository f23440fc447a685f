"""Mask R-CNN with a small LION-D♮ on scenes of real digits: seven minutes or so of a CPU core.

python tools/train.py configs/quickstart/mask-rcnn_lion-d-natural-micro_sfp_digit-scenes.py

Digits of 16 pixels and more want finer patches than photographs: 8 x 8 pixels, of which the pyramid
makes maps at strides 4 to 32, as those of the L2ViT beside it.
"""

_base_ = './mask-rcnn_l2vit-micro_fpn_digit-scenes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmvitlin.LION',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=192),
        img_size=128,
        patch_size=8,
        mask_type='Decay',
        order='S',
        pos_emb=True,
        out_type='featmap',
        # By the width, 96 ** -0.5: from the usual 0.02, narrow layers hardly leave their start.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.1),
    ),
    neck=dict(
        _delete_=True,
        type='mmvitlin.SimpleFeaturePyramid',
        in_channels=96,
        out_channels=_base_.channels,
        scale_factors=(2, 1, 0.5),
        num_outs=4,
        norm_cfg=_base_.norm_cfg,
    ),
)
