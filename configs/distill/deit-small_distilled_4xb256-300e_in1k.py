"""DeiT-small with a distillation token on ImageNet-1k, taught by RegNetY-160.

The paper of DeiT reports 81.2 top-1 with 22M parameters.

tools/dist_train.sh configs/distill/deit-small_distilled_4xb256-300e_in1k.py 4
"""

_base_ = '../toe/deit-small_4xb256-300e_in1k.py'

model = dict(
    type='mmvitlin.DistillationClassifier',
    backbone=dict(type='mmvitlin.DistilledDeiT'),
    head=dict(type='DeiTClsHead'),
    teacher=dict(model='regnety_160.deit_in1k', checkpoint='checkpoints/regnety_160.pth'),
    distillation='hard',
    alpha=0.5,
    tau=1.0,
)
# As DeiT's code, unlike that of token expansion: the raw model is evaluated, the average saved.
custom_hooks = [dict(type='mmvitlin.AverageHook', momentum=4e-5, evaluate=['raw'])]
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.dist_token': dict(decay_mult=0.0)}),
)
