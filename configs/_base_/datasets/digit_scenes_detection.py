# Boxes and masks of real handwritten digits on textured canvases of 128 x 128 pixels. Scenes come
# without files; those to validate on are kept as files too, for the visualization hook reads them.
train_pipeline = [
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),  # the kept file; DetInferencer puts any image in its place
    dict(type='Resize', scale=(128, 128), keep_ratio=True),  # notes the scale that is undone later
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]

# Painting is nothing beside training here, and without worker processes a resumed run draws the
# random numbers that an undisturbed one does.
loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
scenes = dict(type='mmvitlin.DigitScenes', task='detection')
train_dataloader = dict(
    **loader,
    dataset=dict(**scenes, split='train', num_scenes=2000, pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    **loader,
    dataset=dict(
        **scenes,
        split='val',
        num_scenes=200,
        cache_dir='data/digit_scenes',
        test_mode=True,
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
