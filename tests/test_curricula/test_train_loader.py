"""RandAugment and batch sizes of a data loader, found and changed in place."""

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, InfiniteSampler, RepeatDataset
from mmengine.registry import TRANSFORMS, DefaultScope
from torch.utils.data import BatchSampler, DataLoader

from mmvitlin.curricula.efficient_train.augmentation import rand_augments, set_magnitude
from mmvitlin.curricula.efficient_train.batches import batch_size_of, set_batch_size
from mmvitlin.datasets import Digits
from mmvitlin.errors import ConfigError

POLICIES = [
    dict(type='AutoContrast'),
    dict(type='Rotate', magnitude_range=(0, 30), prob=1.0, random_negative_prob=0.0),
    dict(type='Rotate', angle=7.0),
]


def rand_augment(level=9):
    return dict(type='RandAugment', policies=POLICIES, num_policies=1, magnitude_level=level)


def digits(*steps):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Digits('val', [*steps, dict(type='PackInputs')])


def test_rand_augment_is_found_wherever_it_is():
    nested = dict(type='RandomApply', transforms=[rand_augment(3)], prob=0.5)
    choice = dict(type='RandomChoice', transforms=[[rand_augment(5)], [rand_augment(7)]])
    views = dict(type='MultiView', num_views=[1], transforms=[[rand_augment(2)]])
    other = dict(type='Rotate', magnitude_range=(0, 15), magnitude_level=4)
    dataset = digits(rand_augment(1), nested, choice, views, other)
    assert [step.magnitude_level for step in rand_augments(dataset)] == [1, 3, 5, 7, 2]
    both = ConcatDataset([dataset, digits(rand_augment(8))])
    assert [step.magnitude_level for step in rand_augments(both)] == [1, 3, 5, 7, 2, 8]
    repeated = RepeatDataset(digits(rand_augment(8)), 2)
    assert [step.magnitude_level for step in rand_augments(repeated)] == [8]
    assert rand_augments(digits()) == []


def test_a_dataset_without_a_pipeline_is_refused():
    with pytest.raises(ConfigError, match=r'range has no pipeline to look for RandAugment in'):
        rand_augments(range(3))


def test_a_magnitude_is_as_if_it_had_been_built_so():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        changed, built = TRANSFORMS.build(rand_augment(9)), TRANSFORMS.build(rand_augment(3))
    image = np.random.RandomState(0).randint(0, 256, (16, 16, 3), dtype=np.uint8)
    rotate = changed.transforms[1]
    before = rotate(dict(img=image))['img']
    set_magnitude(changed, 3)
    after = rotate(dict(img=image))['img']
    assert np.array_equal(after, built.transforms[1](dict(img=image))['img'])
    assert not np.array_equal(after, before)
    assert repr(changed) == repr(built) and changed.policies == built.policies
    assert changed.transforms[2].__dict__ == built.transforms[2].__dict__


def test_rand_augment_that_label_maps_follow_is_found_and_changed_like_any():
    wrap = dict(type='mmvitlin.TokenLabelAugment', augment=rand_augment(9))
    (changed,) = rand_augments(digits(wrap))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = TRANSFORMS.build(rand_augment(3))
    set_magnitude(changed, 3)
    assert repr(changed) == repr(built)
    image = np.random.RandomState(0).randint(0, 256, (16, 16, 3), dtype=np.uint8)
    results = dict(
        img=image,
        token_label_map=torch.zeros(2, 1, 4, 4),
        token_label_box=torch.tensor([0.0, 0.0, 1.0, 1.0]),
    )
    expected = built.transforms[1](dict(img=image))['img']
    assert np.array_equal(changed.transforms[1](results)['img'], expected)


def test_the_size_of_batches_and_the_length_of_epochs_change_together():
    loader = DataLoader(range(10), batch_size=2)
    assert batch_size_of(loader) == 2
    set_batch_size(loader, 4)
    assert batch_size_of(loader) == 4
    assert [len(batch) for batch in loader] == [4, 4, 2]
    assert len(loader) == 3


def test_batches_of_another_kind_are_refused():
    class Grouped(BatchSampler):
        pass

    sampler = Grouped(InfiniteSampler(range(10)), 2, drop_last=True)
    with pytest.raises(ConfigError, match=r'batches come from Grouped, whose size cannot change'):
        batch_size_of(DataLoader(range(10), batch_sampler=sampler))
