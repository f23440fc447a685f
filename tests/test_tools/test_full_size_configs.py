"""Full-size configs train and validate as they stand, on two small images of their data set."""

import json
import math

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image
from tiny_run import ROOT

pytestmark = pytest.mark.slow

SIDE = 64  # of the images, in pixels
RNG = np.random.default_rng(0)


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(path)


def make_imagenet(root):
    for split in ('train', 'val'):
        for name in ('first.jpg', 'last.jpg'):
            image(root / split / name)
        (root / 'meta').mkdir(exist_ok=True)
        (root / 'meta' / f'{split}.txt').write_text('first.jpg 0\nlast.jpg 999\n')


def make_coco(root):
    corners = [10, 10, 50, 10, 50, 50, 10, 50]
    for split in ('train2017', 'val2017'):
        for name in ('1.jpg', '2.jpg'):
            image(root / split / name)
        annotations = [
            dict(id=i, image_id=i, category_id=1, bbox=[10, 10, 40, 40], area=1600)
            | dict(iscrowd=0, segmentation=[corners])
            for i in (1, 2)
        ]
        content = dict(
            images=[dict(id=i, file_name=f'{i}.jpg', height=SIDE, width=SIDE) for i in (1, 2)],
            annotations=annotations,
            categories=[
                dict(id=i, name=name)
                for i, name in enumerate(CocoDataset.METAINFO['classes'], start=1)
            ],
        )
        (root / 'annotations').mkdir(exist_ok=True)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))


def make_ade20k(root):
    for split in ('training', 'validation'):
        for name in ('1', '2'):
            image(root / 'images' / split / f'{name}.jpg')
            labels = root / 'annotations' / split / f'{name}.png'
            labels.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 151, (SIDE, SIDE), np.uint8)).save(labels)


IN1K = {
    'train_dataloader.batch_size': 1,
    'train_dataloader.dataset.pipeline.1.scale': SIDE,
    'val_dataloader.dataset.pipeline.1.scale': SIDE,
    'val_dataloader.dataset.pipeline.2.crop_size': SIDE,
    'train_cfg.max_epochs': 1,
}
EFFICIENT_TRAIN = {
    **IN1K,
    'custom_hooks.0.input_size': (48, 48, 48, 48, SIDE),
    'custom_hooks.0.batch_size': (1,) * 5,
}
COCO = {
    'train_dataloader.batch_size': 1,
    'train_dataloader.dataset.pipeline.3.transforms.0.0.scales': [(96, 64), (64, 48)],
    'train_dataloader.dataset.pipeline.3.transforms.1.0.scales': [(80, 80)],
    'train_dataloader.dataset.pipeline.3.transforms.1.1.crop_size': (48, 64),
    'train_dataloader.dataset.pipeline.3.transforms.1.2.scales': [(96, 64)],
    'val_dataloader.dataset.pipeline.1.scale': (96, 64),
    'model.backbone.init_cfg': None,
    'train_cfg.max_epochs': 1,
}
# An untrained detector's scores are low, and no box at all would leave no metric.
MASK_RCNN = {**COCO, 'model.test_cfg.rcnn.score_thr': 0.0}
ADE20K = {
    'train_dataloader.batch_size': 2,  # BatchNorm on the pyramid's 1 x 1 map takes two
    'train_dataloader.dataset.pipeline.2.scale': (128, SIDE),
    'train_dataloader.dataset.pipeline.3.crop_size': (SIDE, SIDE),
    'val_dataloader.dataset.pipeline.1.scale': (128, SIDE),
    'model.data_preprocessor.size': (SIDE, SIDE),
    'model.backbone.init_cfg': None,
    'train_cfg.max_iters': 2,
    'train_cfg.val_interval': 2,
}
# One per data set; tests/test_reduced_configs.py trains all models.
CASES = {
    'deit-tiny_efftrain_toe_8xb256-accum2-300e_in1k': (
        make_imagenet,
        EFFICIENT_TRAIN,
        'accuracy/top1',
    ),
    'mask-rcnn_l2vit-tiny_fpn_1x_coco': (make_coco, MASK_RCNN, 'coco/segm_mAP'),
    'lion-d-natural-small_upernet_8xb2-160k_ade20k-512x512': (make_ade20k, ADE20K, 'mIoU'),
}
HERE = {
    'default_hooks.logger.interval': 1,
    'default_hooks.checkpoint.interval': -1,  # half a gigabyte that nothing reads
    'default_hooks.checkpoint.save_last': False,
    'default_hooks.checkpoint.save_best': None,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
}


@pytest.mark.parametrize('name', CASES)
def test_a_full_size_config_trains_and_validates(name, run_tool, tmp_path):
    make_data, options, metric = CASES[name]
    data = tmp_path / 'data'
    data.mkdir()
    make_data(data)
    options = HERE | options | {'experiment_name': name, 'visualizer.name': name}
    for split in ('train', 'val'):
        options[f'{split}_dataloader.dataset.data_root'] = data
    if make_data is make_coco:
        options['val_evaluator.ann_file'] = data / 'annotations/instances_val2017.json'
    run_tool(
        *('train.py', next(ROOT.glob(f'configs/*/{name}.py')), '--work-dir', tmp_path / 'run'),
        '--cfg-options',
        *(f'{key}={str(value).replace(" ", "")}' for key, value in options.items()),
    )
    (scalars,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    losses = [record['loss'] for record in records if 'loss' in record]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert any(metric in record for record in records)
