"""Digits is the same dataset everywhere and feeds any pipeline."""

import hashlib
import sys

import numpy as np
import pytest
from config_reading import load
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from sklearn.datasets import load_digits

from mmvitlin.datasets import Digits


@pytest.fixture(scope='module')
def splits():
    return Digits('train'), Digits('val')


def images_of(dataset):
    return [digit['img'] for digit in dataset]


def test_the_two_splits_share_out_all_digits(splits):
    train, val = splits
    assert (len(train), len(val)) == (1442, 355)
    ours = sorted(image[..., 0].tobytes() for split in splits for image in images_of(split))
    scans = load_digits().images
    theirs = sorted(np.rint(scan * 255 / 16).astype(np.uint8).tobytes() for scan in scans)
    assert ours == theirs


def test_the_split_never_changes(splits):
    digests = [
        hashlib.sha256(b''.join(image.tobytes() for image in images_of(split))).hexdigest()[:16]
        for split in splits
    ]
    assert digests == DIGESTS


DIGESTS = ['719ab3fa5ff3e85f', '99e610d3b52487f8']


def test_labels_belong_to_their_images(splits):
    digits = load_digits()
    label_of = {
        np.rint(image * 255 / 16).astype(np.uint8).tobytes(): label
        for image, label in zip(digits.images, digits.target)
    }
    for split in splits:
        for digit in split:
            assert label_of[digit['img'][..., 0].tobytes()] == digit['gt_label']


def test_every_class_is_held_out_in_the_same_share(splits):
    for label in range(10):
        train, val = ([digit['gt_label'] for digit in split].count(label) for split in splits)
        assert val == (train + val) // 5


def test_samples_are_images_of_three_channels(splits):
    digit = splits[0][0]
    assert digit['img'].shape == (8, 8, 3)
    assert digit['img'].dtype == np.uint8
    assert {image.max() for image in images_of(splits[0])} >= {255}
    assert splits[0].get_cat_ids(0) == [digit['gt_label']]
    assert splits[0].CLASSES == splits[0].metainfo['classes'] == tuple('0123456789')


def test_feeds_a_pipeline_of_mmpretrain():
    pipeline = [dict(type='Resize', scale=32), dict(type='PackInputs')]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(
            dict(type='mmvitlin.Digits', split='val', indices=3, pipeline=pipeline)
        )
    assert isinstance(dataset, BaseDataset)
    assert len(dataset) == 3
    assert dataset[0]['inputs'].shape == (3, 32, 32)
    assert dataset[0]['data_samples'].gt_label.shape == (1,)


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="'train' and 'val', got 'test'"):
        Digits('test')


def test_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        Digits('val')


def test_the_quickstarts_digits_build_without_a_default_scope():
    """As mmpretrain's vis_tsne.py and vis_scheduler.py build them."""
    cfg = load('configs/_base_/datasets/digits.py')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert DATASETS.build(loader.dataset)[0]['inputs'].shape == (3, 32, 32)
