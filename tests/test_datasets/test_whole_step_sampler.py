"""WholeStepSampler drops only images that do not fill an optimizer step."""

from mmvitlin.datasets import whole_step_sampler as module
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


def test_a_data_set_smaller_than_a_step_is_taken_whole_which_is_said(monkeypatch):
    said = []
    monkeypatch.setattr(module, 'print_log', lambda message, **_: said.append(message))
    assert len(build(8, 8)) == 8
    assert not said
    assert sorted(build(7, 8)) == [*range(7)]
    assert 'A process has 7 images, fewer than train_dataloader.sampler.step_size=8' in said[0]
