"""LV-ViT-medium fine-tuned at 384 x 384 on ImageNet-1k. The paper reports 85.4 top-1.

tools/dist_train.sh configs/lvvit/lvvit-medium_8xb64-30e_in1k-384px.py 8

It starts from a checkpoint of lvvit-medium_8xb128-300e_in1k, or the original's, converted: put it
at checkpoints/lvvit-medium_in1k.pth, or name it by `--cfg-options load_from=CHECKPOINT`. Its
positions are resized.
"""

_base_ = './lvvit-small_8xb64-30e_in1k-384px.py'

model = dict(backbone=dict(arch='medium', drop_path_rate=0.2), head=dict(in_channels=512))
load_from = 'checkpoints/lvvit-medium_in1k.pth'

# The original tests medium and large on the whole height or width, tiny and small on 0.9 of it.
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=384),
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
