"""ViT-LLaMA with 0.4M parameters and a frozen block that is drawn at random, on real digits.

python tools/train.py configs/quickstart/vit-llama-micro_1xb64_digits.py

The block has LLaMA's form, 0.2M weights, and none of its knowledge: no file of LLaMA is needed. It
is the same one in every run, and in no checkpoint.
"""

_base_ = [
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_adamw_30e.py',
    '../_base_/runtimes/mmpretrain_digits.py',
]

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmvitlin.ViTLLaMA',
        arch=dict(embed_dims=96, num_layers=5, num_heads=3, feedforward_channels=192),
        img_size=32,
        patch_size=8,
        llama=dict(embed_dims=128, num_heads=4, feedforward_channels=352, checkpoint='random'),
        drop_path_rate=0.05,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=40)
