"""The same with EfficientTrain: images of 20, 20, 20, 24 and 28 pixels, a fifth of the epochs each.

python tools/train.py configs/quickstart/vit-micro_efftrain_1xb64_digits-28px.py
"""

_base_ = './vit-micro_1xb64_digits-28px.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmvitlin.EfficientTrainHook', input_size=(20, 20, 20, 24, 28)),
]
