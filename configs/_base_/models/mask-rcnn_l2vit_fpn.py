# Mask R-CNN with L2ViT-tiny and an FPN.
_base_ = './mask-rcnn.py'

model = dict(
    backbone=dict(type='mmvitlin.L2ViT', arch='tiny', drop_path_rate=0.1, out_indices=(0, 1, 2, 3)),
    neck=dict(type='FPN', in_channels=[96, 192, 384, 768], out_channels=256, num_outs=5),
)
