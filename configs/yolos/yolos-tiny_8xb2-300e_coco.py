"""YOLOS-tiny on COCO, 300 epochs. The paper reports 28.7 box AP.

tools/dist_train.sh configs/yolos/yolos-tiny_8xb2-300e_coco.py 8

It starts from a DeiT-tiny of ImageNet-1k, trained here or converted: put it at
checkpoints/deit-tiny_in1k.pth, or name it by
`--cfg-options model.backbone.init_cfg.checkpoint=PATH`; `model.backbone.init_cfg=None` starts from
random weights.
"""

_base_ = './yolos-small_8xb1-150e_coco.py'

model = dict(
    backbone=dict(
        vit=dict(arch='deit-tiny'),
        img_size=(800, 1333),
        mid_img_size=None,
        init_cfg=dict(checkpoint='checkpoints/deit-tiny_in1k.pth'),
    ),
    bbox_head=dict(embed_dims=192),
)

train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
sizes = [(1013, short) for short in range(256, 609, 16)]
whole, cropped = train_pipeline[3]['transforms']
whole[0]['scales'] = cropped[2]['scales'] = sizes
test_pipeline[1]['scale'] = (853, 512)
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=2, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 300
optim_wrapper = dict(optimizer=dict(lr=5e-5))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=1e-7, begin=1)]
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=16)  # 8 GPUs x 2
