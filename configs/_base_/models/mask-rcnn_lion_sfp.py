# Mask R-CNN with LION-small, whose last map becomes a pyramid (arXiv 2203.16527).
_base_ = './mask-rcnn.py'

model = dict(
    backbone=dict(type='mmvitlin.LION', arch='small', drop_path_rate=0.1, out_type='featmap'),
    neck=dict(type='mmvitlin.SimpleFeaturePyramid', in_channels=384, out_channels=256, num_outs=5),
)
