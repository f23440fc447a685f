"""L2ViT-tiny on ImageNet-1k with EfficientTrain: at most 1.444 times faster than without.

tools/dist_train.sh configs/efficient_train/l2vit-tiny_efftrain_8xb128-accum4-300e_in1k.py 8

L2ViT's recipe, with the curriculum: 256 images per GPU up to 192 x 192, then its own 128.
"""

_base_ = '../l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py'

custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='mmvitlin.EfficientTrainHook',
        input_size=(160, 160, 160, 192, 224),
        magnitude_level=(1, 3, 5, 7, 9),
        batch_size=(256, 256, 256, 256, 128),
    ),
]
