"""WholeStepSampler leaves out what makes no whole optimiser step, and nothing else."""

import pytest

from mmvitlin.errors import ConfigError
from mmvitlin.registry import DATA_SAMPLERS

SHUFFLED = dict(type='DefaultSampler', shuffle=True)


def build(length, step_size, sampler=SHUFFLED):
    settings = dict(type='mmvitlin.WholeStepSampler', sampler=sampler, step_size=step_size)
    return DATA_SAMPLERS.build(settings, default_args=dict(dataset=range(length), seed=3))


def test_an_epoch_is_the_other_samplers_cut_to_whole_steps():
    sampler = build(27, 8)
    whole = DATA_SAMPLERS.build(SHUFFLED, default_args=dict(dataset=range(27), seed=3))
    for epoch in range(2):
        sampler.set_epoch(epoch)
        whole.set_epoch(epoch)
        assert list(sampler) == list(whole)[:24]
    assert len(sampler) == 24


def test_the_seed_of_a_resumed_run_reaches_the_other_sampler():
    sampler = build(27, 8)
    before = list(sampler)
    sampler.seed = 4
    assert sampler.sampler.seed == sampler.seed == 4
    assert list(sampler) != before


def test_an_epoch_without_a_whole_step_is_refused():
    with pytest.raises(
        ConfigError, match=r'has 7 images .* train_dataloader\.sampler\.step_size=8'
    ):
        build(7, 8)
