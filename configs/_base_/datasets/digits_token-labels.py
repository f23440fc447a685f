# Digits with label maps by tools/generate_token_labels.py. Crops take them along; a rotation turns
# the image alone.
_base_ = './digits.py'

train_pipeline = [
    dict(
        type='mmvitlin.TokenLabelCrop',
        crop=dict(
            type='RandomResizedCrop',
            scale=32,
            crop_ratio_range=(0.6, 1.0),
            aspect_ratio_range=(0.8, 1.25),
            interpolation='bicubic',
        ),
    ),
    _base_.train_pipeline[1],
    dict(type='PackInputs', algorithm_keys=('token_label_map', 'token_label_box')),
]

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmvitlin.TokenLabelDataset',
        dataset=dict(type='mmvitlin.Digits', split='train'),
        label_root='data/digits_token_labels',
        pipeline=train_pipeline,
    )
)
