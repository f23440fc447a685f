"""The same LION, distilled from L2ViT: it learns digits from labels and from a trained teacher.

python tools/train.py configs/quickstart/l2vit-micro_1xb64_digits.py
python tools/train.py configs/quickstart/lion-d-natural-micro_distilled_1xb64_digits.py

The first command trains the teacher. Tests, and whoever uses the checkpoints, need it no more.
"""

_base_ = './lion-d-natural-micro_1xb64_digits.py'

model = dict(
    type='mmvitlin.DistillationClassifier',
    teacher=dict(
        model='configs/quickstart/l2vit-micro_1xb64_digits.py',
        checkpoint='work_dirs/l2vit-micro_1xb64_digits/epoch_30.pth',
    ),
    distillation='hard',
    alpha=0.5,
)
