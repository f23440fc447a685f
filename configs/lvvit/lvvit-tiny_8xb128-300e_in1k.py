"""LV-ViT-tiny on ImageNet-1k with token labels. The paper reports 79.1 top-1.

tools/dist_train.sh configs/lvvit/lvvit-tiny_8xb128-300e_in1k.py 8
"""

_base_ = './lvvit-small_8xb128-300e_in1k.py'

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=240))
