"""ViT-small, pre-trained by DINOv2, fine-tuned with token expansion at 224 x 224.

tools/dist_train.sh configs/toe/dinov2-small_toe_8xb128-50e_in1k.py 8

It starts from mmpretrain's checkpoint of vit-small-p14_dinov2-pre, whose positions are resized: put
it at checkpoints/dinov2-small.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT`. The recipe is ours: MAE's in half the
epochs, with a lower rate that falls less by the layer. We have not run it.
"""

_base_ = './mae-base_toe_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='dinov2-small',
        patch_size=14,
        layer_scale_init_value=1e-5,
        out_type='cls_token',
        final_norm=True,
        init_cfg=dict(checkpoint='checkpoints/dinov2-small.pth'),
    ),
    head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(layer_decay_rate=0.75))
train_cfg = dict(max_epochs=50)
