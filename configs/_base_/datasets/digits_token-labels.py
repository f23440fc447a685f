# scikit-learn's handwritten digits at 32 x 32, each with its label map from a trained teacher:
#   python tools/generate_token_labels.py configs/quickstart/l2vit-micro_1xb64_digits-64px.py \
#       work_dirs/l2vit-micro_1xb64_digits-64px/epoch_30.pth data/digits_token_labels
# That teacher sees 64 x 64 pixels; at 32 x 32 its last map would be a single place.
_base_ = './digits.py'

train_pipeline = [
    *_base_.train_pipeline[:2],  # resized, and turned a little: too little for label maps to follow
    dict(
        type='mmvitlin.TokenLabelCrop',
        crop=dict(
            type='RandomResizedCrop',
            scale=32,
            crop_ratio_range=(0.6, 1.0),
            aspect_ratio_range=(4 / 5, 5 / 4),
            interpolation='bicubic',
        ),
    ),
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
