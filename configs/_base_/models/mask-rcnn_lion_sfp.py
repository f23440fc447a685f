# Mask R-CNN with LION-small, whose last map becomes a pyramid (arXiv 2203.16527).
_base_ = './mask-rcnn.py'

model = dict(
    backbone=dict(
        type='mmvitlin.LION',
        arch='small',
        drop_path_rate=0.1,
        out_type='featmap',
        with_cp=True,  # 0.87 of the memory at 1024 x 1024, in the same time: benchmarks/README.md
    ),
    neck=dict(type='mmvitlin.SimpleFeaturePyramid', in_channels=384, out_channels=256, num_outs=5),
)
