# ImageNet-Sketch (arXiv 1905.13549): sketches of ImageNet-1k's 1000 classes. Leaf configs test
# on it.
robustness_data = dict(
    type='CustomDataset',
    data_root='data/imagenet-sketch',
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bicubic'),
        dict(type='CenterCrop', crop_size=224),
        dict(type='PackInputs'),
    ],
)
robustness_evaluator = [dict(type='Accuracy', topk=(1, 5))]
