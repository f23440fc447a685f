"""LV-ViT-medium on ImageNet-1k with token labels. The paper reports 84.0 top-1.

tools/dist_train.sh configs/lvvit/lvvit-medium_8xb128-300e_in1k.py 8
"""

_base_ = './lvvit-small_8xb128-300e_in1k.py'

model = dict(backbone=dict(arch='medium', drop_path_rate=0.2), head=dict(in_channels=512))

# The original tests medium and large on the whole height or width, tiny and small on 0.9 of it.
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=224),
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
