"""LION-D♮-base on ImageNet-1k, taught by RegNetY-160 through its class output.

The paper of LION reports 80.2 top-1 without a teacher.

tools/dist_train.sh configs/distill/lion-d-natural-base_distilled_4xb256-300e_in1k.py 4
"""

_base_ = '../lion/lion-d-natural-base_4xb256-300e_in1k.py'

model = dict(
    type='mmvitlin.DistillationClassifier',
    teacher=dict(model='regnety_160.deit_in1k', checkpoint='checkpoints/regnety_160.pth'),
    distillation='hard',
    alpha=0.5,
    tau=1.0,
)
