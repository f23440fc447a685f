"""LV-ViT with 0.6M parameters on real handwritten digits, each with the label map of a teacher.

python tools/train.py configs/quickstart/l2vit-micro_1xb64_digits-64px.py
python tools/generate_token_labels.py configs/quickstart/l2vit-micro_1xb64_digits-64px.py \
    work_dirs/l2vit-micro_1xb64_digits-64px/epoch_30.pth data/digits_token_labels
python tools/train.py configs/quickstart/lvvit-micro_1xb64_digits.py
"""

_base_ = [
    '../_base_/datasets/digits_token-labels.py',
    '../_base_/schedules/digits_adamw_30e.py',
    '../_base_/runtimes/mmpretrain_digits.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmvitlin.LVViT',
        arch=dict(
            embed_dims=96,
            num_layers=6,
            num_heads=3,
            feedforward_channels=288,
            skip_lam=1.0,
            stem_channels=16,
        ),
        img_size=32,
        patch_size=4,
    ),
    head=dict(type='mmvitlin.TokenLabelHead', num_classes=10, in_channels=96),
)

# Three epochs of warm-up, as for vit-micro_1xb64_digits.py.
param_scheduler = dict(
    _delete_=True,
    type='mmvitlin.WarmupCosineLR',
    convert_to_iter_based=True,
    warmup=3,
    warmup_lr=2e-5,
    min_lr=1e-5,
    after_warmup=True,
)
