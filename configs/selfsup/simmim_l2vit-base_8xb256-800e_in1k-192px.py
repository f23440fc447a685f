"""L2ViT-base by SimMIM on ImageNet-1k at 192 x 192, 800 epochs. No paper reports it.

tools/dist_train.sh configs/selfsup/simmim_l2vit-base_8xb256-800e_in1k-192px.py 8
"""

_base_ = './simmim_l2vit-base_8xb256-100e_in1k-192px.py'

optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-3, end=10, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[700], begin=10, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=800)
