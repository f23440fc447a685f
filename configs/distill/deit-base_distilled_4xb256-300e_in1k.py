"""DeiT-base with a distillation token on ImageNet-1k, taught by RegNetY-160.

The paper of DeiT reports 83.4 top-1 with 87M parameters.

tools/dist_train.sh configs/distill/deit-base_distilled_4xb256-300e_in1k.py 4
"""

_base_ = './deit-small_distilled_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='deit-base'), head=dict(in_channels=768))
