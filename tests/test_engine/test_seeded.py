"""Seeded samples depend on the seed, the epoch and the place in the epoch, and on nothing else."""

import random

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmvitlin.engine import SeededDataset, SeededSampler


class Noise(Dataset):
    """Random numbers of every generator that transforms draw from."""

    metainfo = dict(classes=('a',))

    def __len__(self):
        return 24

    def __getitem__(self, index):
        drawn = [random.random(), np.random.rand(), torch.rand(1).item()]
        return torch.tensor([index, *drawn], dtype=torch.float64)


def loader(seed=3, epoch=0, **options):
    dataset = SeededDataset(Noise())
    sampler = SeededSampler(dataset, dict(type='DefaultSampler', shuffle=True), seed)
    sampler.set_epoch(epoch)
    return DataLoader(dataset, batch_size=4, sampler=sampler, **options)


def samples(loader):
    return torch.cat(list(loader))


def test_workers_and_what_was_drawn_before_change_nothing():
    expected = samples(loader())
    torch.rand(5), np.random.rand(5), random.random()
    assert torch.equal(samples(loader()), expected)
    workers = loader(num_workers=2, persistent_workers=True)
    assert torch.equal(samples(workers), expected)
    assert torch.equal(samples(workers), expected)


def test_each_epoch_seed_and_sample_draws_other_numbers():
    drawn = [samples(loader(seed, epoch))[:, 1:] for seed in (3, 4) for epoch in (0, 1)]
    drawn = torch.cat(drawn)
    assert len(drawn.unique(dim=0)) == len(drawn)


def test_batches_can_be_left_out():
    whole, rest = loader(), loader()
    batches = list(rest.batch_sampler)[2:]
    assert torch.equal(samples(DataLoader(rest.dataset, batch_sampler=batches)), samples(whole)[8:])


def test_the_generators_of_the_process_stay_as_they_were():
    dataset = SeededDataset(Noise())
    draw = next(iter(SeededSampler(dataset, dict(type='DefaultSampler'), 0)))
    numbers = []
    for load in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if load:
            dataset[draw]
        numbers.append([random.random(), np.random.rand(), torch.rand(1).item()])
    assert numbers[0] == numbers[1]


def test_batch_samplers_of_hosts_take_the_draws():
    dataset = SeededDataset(Noise())
    sampler = SeededSampler(dataset, dict(type='DefaultSampler', shuffle=False), 0)
    batches = list(BatchSampler(sampler, 4, drop_last=False))
    assert [draw.index for draw in batches[1]] == [4, 5, 6, 7]


def test_resuming_sets_the_seed_of_order_and_numbers():
    changed = loader(seed=5)
    changed.sampler.seed = 3
    assert torch.equal(samples(changed), samples(loader(seed=3)))


def test_what_hooks_ask_of_a_dataset_is_answered():
    dataset = SeededDataset(Noise())
    assert (len(dataset), dataset.metainfo) == (24, dict(classes=('a',)))
    assert not hasattr(SeededDataset([1, 2]), 'metainfo')
    assert dataset[3][0] == 3


def test_the_other_dataset_is_built_from_its_config():
    settings = dict(type='mmvitlin.Digits', split='train', pipeline=[])
    dataset = DATASETS.build(dict(type='mmvitlin.SeededDataset', dataset=settings))
    dataset.full_init()
    assert len(dataset) == len(dataset.dataset) > 0
    assert dataset.get_data_info(5)['sample_idx'] == 5


@pytest.mark.parametrize('length', [1, 3])
def test_an_infinite_sampler_goes_on_without_repeating_numbers(length):
    dataset = SeededDataset(Noise())
    sampler = SeededSampler(dataset, dict(type='InfiniteSampler', shuffle=True), 0)
    draws = [draw for draw, _ in zip(sampler, range(24 * length))]
    assert len({draw.key for draw in draws}) == 24 * length
