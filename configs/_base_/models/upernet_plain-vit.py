# UPerNet with a plain vision transformer of small size: a map at each quarter of its depth, the
# first of them resampled to stride 4, the last to 32. Leaf configs name the backbone's type.
_base_ = './upernet.py'

model = dict(
    # To test, images are padded to whole patches and predictions cropped again.
    data_preprocessor=dict(test_cfg=dict(size_divisor=16)),
    backbone=dict(arch='small', drop_path_rate=0.1, out_type='featmap', out_indices=(2, 5, 8, 11)),
    neck=dict(type='mmvitlin.SimpleFeaturePyramid', in_channels=384, out_channels=256),
    decode_head=dict(in_channels=[256, 256, 256, 256]),
    auxiliary_head=dict(in_channels=256),
)
