"""DeiT-tiny with a distillation token on ImageNet-1k, taught by RegNetY-160.

The paper of DeiT reports 74.5 top-1 with 6M parameters.

tools/dist_train.sh configs/distill/deit-tiny_distilled_4xb256-300e_in1k.py 4
"""

_base_ = './deit-small_distilled_4xb256-300e_in1k.py'

model = dict(backbone=dict(arch='deit-tiny'), head=dict(in_channels=192))
