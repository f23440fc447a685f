"""A LION that sees digits in 16 patches only, taught by L2ViT: a minute or so on a CPU core.

python tools/train.py configs/quickstart/l2vit-micro_1xb64_digits.py
python tools/train.py configs/quickstart/lion-d-natural-micro-p8_distilled_1xb64_digits.py

The first command trains the teacher, which only training needs: not tests, nor whoever uses the
checkpoints. With --cfg-options model.distillation=none the same student learns from labels alone.
"""

_base_ = './lion-d-natural-micro_1xb64_digits.py'

model = dict(
    type='mmvitlin.DistillationClassifier',
    backbone=dict(patch_size=8),
    teacher=dict(
        model='{{ fileDirname }}/l2vit-micro_1xb64_digits.py',
        checkpoint='work_dirs/l2vit-micro_1xb64_digits/epoch_30.pth',
    ),
    # A teacher that is right on almost every digit says in its first choice no more than the label.
    distillation='soft',
    alpha=0.9,
    tau=3.0,
)
