# UPerNet with L2ViT-tiny.
_base_ = './upernet.py'

model = dict(
    backbone=dict(type='mmvitlin.L2ViT', arch='tiny', drop_path_rate=0.3, out_indices=(0, 1, 2, 3)),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
