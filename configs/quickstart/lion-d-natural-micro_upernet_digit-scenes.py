"""UPerNet with a small LION-D♮ on scenes of real digits: eleven minutes or so of a CPU core.

python tools/train.py configs/quickstart/lion-d-natural-micro_upernet_digit-scenes.py

Digits want finer patches than photographs: 8 x 8 pixels. Of the maps of the last three layers the
pyramid makes one at stride 4, one at 8 and one at 16.
"""

_base_ = './l2vit-micro_upernet_digit-scenes.py'

channels = 64  # of the pyramid
model = dict(
    # Images of other sizes are padded to whole patches, and predictions cropped again.
    data_preprocessor=dict(test_cfg=dict(size_divisor=8)),
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
        out_indices=(1, 2, 3),
        # By the width, 96 ** -0.5: from the usual 0.02, narrow layers hardly leave their start.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.1),
    ),
    neck=dict(
        type='mmvitlin.SimpleFeaturePyramid',
        in_channels=96,
        out_channels=channels,
        scale_factors=(2, 1, 0.5),
        norm_cfg=_base_.norm_cfg,
    ),
    decode_head=dict(in_channels=[channels] * 3, in_index=[0, 1, 2]),
    auxiliary_head=dict(in_channels=channels, in_index=1),
)
