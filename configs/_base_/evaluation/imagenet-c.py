# ImageNet-C (arXiv 1903.12261): ImageNet-1k's validation images under 15 corruptions of 5
# severities, in data/imagenet-c/CORRUPTION/SEVERITY. They are 224 x 224 already. Leaf configs
# test on it.
corruptions = [
    *('gaussian_noise', 'shot_noise', 'impulse_noise'),
    *('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    *('snow', 'frost', 'fog', 'brightness'),
    *('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
]
robustness_data = dict(
    type='ConcatDataset',
    datasets=[
        dict(
            type='CustomDataset',
            data_root=f'data/imagenet-c/{corruption}/{severity}',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='CenterCrop', crop_size=224),
                dict(type='PackInputs'),
            ],
        )
        for corruption in corruptions
        for severity in (1, 2, 3, 4, 5)
    ],
)
robustness_evaluator = [dict(type='mmvitlin.CorruptionError')]
