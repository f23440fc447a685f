"""LV-ViT-medium on ImageNet-1k with token labels. The paper reports 84.0 top-1.

tools/dist_train.sh configs/lvvit/lvvit-medium_8xb128-300e_in1k.py 8
"""

_base_ = './lvvit-small_8xb128-300e_in1k.py'

model = dict(backbone=dict(arch='medium', drop_path_rate=0.2), head=dict(in_channels=512))
