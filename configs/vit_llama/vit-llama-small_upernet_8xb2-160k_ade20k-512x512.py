"""UPerNet with ViT-LLaMA-small and a simple feature pyramid on ADE20K at 512 x 512.

Its last map has gone through LLaMA's block, the three before have not. No paper reports it.

tools/dist_train.sh configs/vit_llama/vit-llama-small_upernet_8xb2-160k_ade20k-512x512.py 8

It starts from an ImageNet-1k checkpoint of ViT-LLaMA-small, trained here or converted: put it at
checkpoints/vit-llama-small_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights. Its positions, learned at 224 x 224, are resized to the crops'.
"""

_base_ = [
    '../_base_/models/upernet_plain-vit.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_adamw_layer-decay_160k.py',
    '../_base_/runtimes/mmseg.py',
]

data_preprocessor = dict(size=_base_.crop_size)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmvitlin.ViTLLaMA',
        img_size=_base_.crop_size,
        llama=dict(
            checkpoint='checkpoints/llama-7b_layer-31.safetensors', dtype='bfloat16', save=False
        ),
        init_cfg=dict(
            type='Pretrained', checkpoint='checkpoints/vit-llama-small_in1k.pth', prefix='backbone.'
        ),
    ),
)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
