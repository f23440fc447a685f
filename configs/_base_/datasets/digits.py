# scikit-learn's handwritten digits, 8 x 8 pixels, enlarged to 32 x 32. mmpretrain's vis_tsne.py and
# vis_scheduler.py set no default scope: the prefixes stand in for it.
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False)

train_pipeline = [
    dict(type='Resize', scale=32, interpolation='bicubic'),
    dict(
        type='mmpretrain.Rotate',
        magnitude_range=(0.0, 15.0),
        magnitude_std='inf',
        prob=1.0,
        pad_val=0,
    ),
    dict(type='mmpretrain.RandomCrop', crop_size=32, padding=3),
    dict(type='mmpretrain.PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=32, interpolation='bicubic'),
    dict(type='mmpretrain.PackInputs'),
]

# Loading is nothing beside training here, and without worker processes a resumed run draws the
# random numbers that an undisturbed one does.
loader = dict(batch_size=64, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    dataset=dict(type='mmvitlin.Digits', split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    **loader,
    dataset=dict(type='mmvitlin.Digits', split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
