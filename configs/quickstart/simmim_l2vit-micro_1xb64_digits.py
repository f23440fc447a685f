"""L2ViT with 0.4M parameters learns from digits without labels, by SimMIM.

python tools/train.py configs/quickstart/simmim_l2vit-micro_1xb64_digits.py

Three minutes or so on a CPU core. The checkpoint starts l2vit-micro_1xb64_digits.py with
--cfg-options load_from=work_dirs/simmim_l2vit-micro_1xb64_digits/epoch_30.pth.
"""

_base_ = [
    '../_base_/datasets/digits_unlabelled.py',
    '../_base_/schedules/digits_adamw_unlabelled_30e.py',
]

train_pipeline = [
    *_base_.train_pipeline[:-1],
    dict(
        type='SimMIMMaskGenerator',
        input_size=32,
        mask_patch_size=8,
        model_patch_size=4,
        mask_ratio=0.5,
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

model = dict(
    type='SimMIM',
    backbone=dict(
        type='mmvitlin.SimMIML2ViT',
        arch=dict(embed_dims=(16, 32, 64, 128), depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8)),
        window_size=4,
    ),
    neck=dict(type='SimMIMLinearDecoder', in_channels=128, encoder_stride=32),
    head=dict(
        type='SimMIMHead',
        patch_size=4,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
    ),
)
