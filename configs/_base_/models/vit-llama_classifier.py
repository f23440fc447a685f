# ViT-LLaMA-tiny with a linear head for ImageNet-1k's 1000 classes, trained by DeiT's recipe: mixup
# or CutMix on every batch, evenly, and smoothed labels. Layer 31 of LLaMA-7B lies in a file that
# tools/extract_llama_block.py makes; checkpoints are saved without it.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmvitlin.ViTLLaMA',
        arch='tiny',
        llama=dict(
            checkpoint='checkpoints/llama-7b_layer-31.safetensors', dtype='bfloat16', save=False
        ),
        drop_path_rate=0.1,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
