# Five key points of scikit-learn's handwritten digits, enlarged to 64 x 64.
dataset_type = 'mmvitlin.DigitKeypoints'  # mmpose's inferencer reads these two
data_mode = 'topdown'

codec = dict(type='MSRAHeatmap', input_size=(64, 64), heatmap_size=(16, 16), sigma=1)

train_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale', padding=1.0),
    dict(
        type='RandomBBoxTransform',
        shift_factor=0.05,
        shift_prob=1.0,
        scale_factor=(0.9, 1.1),
        scale_prob=1.0,
        rotate_factor=5.0,
        rotate_prob=1.0,
    ),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='GenerateTarget', encoder=codec),
    dict(type='PackPoseInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale', padding=1.0),
    dict(type='TopdownAffine', input_size=codec['input_size']),
    dict(type='PackPoseInputs'),
]

# Loading is nothing beside training here.
loader = dict(batch_size=64, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    dataset=dict(type=dataset_type, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    **loader,
    dataset=dict(type=dataset_type, split='val', test_mode=True, pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='PCKAccuracy', thr=0.2)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
