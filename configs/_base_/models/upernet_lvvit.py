# UPerNet with LV-ViT-small and the original's side layers, tested by windows of 512 x 512.
_base_ = './upernet.py'

model = dict(
    # To test, images are padded to whole patches and predictions cropped again.
    data_preprocessor=dict(test_cfg=dict(size_divisor=16)),
    backbone=dict(
        type='mmvitlin.LVViT',
        arch='small',
        img_size=512,
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=(6, 9, 12, 15),
    ),
    neck=dict(
        type='mmvitlin.SideLayers', in_channels=384, out_channels=2048, norm_cfg=_base_.norm_cfg
    ),
    decode_head=dict(in_channels=[384, 384, 384, 2048], channels=256),
    auxiliary_head=dict(in_channels=384),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
