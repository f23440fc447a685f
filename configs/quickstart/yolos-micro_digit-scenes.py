"""YOLOS with a small LV-ViT on scenes of one to three real digits, of 64 pixels, shown at 32.

python tools/train.py configs/quickstart/yolos-micro_digit-scenes.py

Two processes, which take a core each, do the same training in about half the time:
tools/dist_train.sh configs/quickstart/yolos-micro_digit-scenes.py 2 \
    --cfg-options train_dataloader.batch_size=8

The baseline of yolos-micro_toe_digit-scenes.py. Scenes are small and have few digits each, since a
plain ViT from random weights learns slowly to detect: boxes first, classes later.
"""

_base_ = [
    '../_base_/models/yolos.py',
    '../_base_/datasets/digit_scenes_detection.py',
    '../_base_/schedules/digit_scenes_adamw_4e.py',
    '../_base_/runtimes/mmdet.py',
]

channels, side = 96, 32
model = dict(
    data_preprocessor=dict(mean=[128.0] * 3, std=[64.0] * 3),
    backbone=dict(
        vit=dict(
            type='mmvitlin.LVViT',
            arch=dict(
                embed_dims=channels,
                num_layers=6,
                num_heads=3,
                feedforward_channels=2 * channels,
                skip_lam=1.0,
                stem_channels=32,
            ),
            patch_size=4,
        ),
        img_size=side,
        num_det_tokens=6,
        # Tokens as large as features, so that they differ from the first step on.
        token_std=0.3,
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    bbox_head=dict(num_classes=10, embed_dims=channels, loss_cls_weight=2.0),
)

train_pipeline = [
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(side, side)),
    dict(type='PackDetInputs'),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1]['scale'] = (side, side)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        num_scenes=12000,
        image_size=64,
        cache_dir='data/digit_scenes',  # painted in the first epoch, read in the others
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(image_size=64, pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 10
optim_wrapper = dict(
    # foreach: one call for all parameters, which saves a twelfth of a step here.
    optimizer=dict(lr=1e-3, weight_decay=0.02, foreach=True),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=2)

auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(max_keep_ckpts=2))
# Some seeds take an epoch longer until classes are learned.
randomness = dict(seed=0)
