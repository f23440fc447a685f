"""The stages of a curriculum are those of the originals."""

from goldens import load_meta

from mmvitlin.curricula.schedule import Schedule


def test_stages_of_token_expansion_are_the_originals():
    schedules = load_meta('toe_stages')
    assert schedules
    for settings in schedules:
        schedule = Schedule('expansion_step', settings['expansion_step'])
        for epoch, stage in settings['epoch_stage']:
            assert schedule.stage_at(epoch, 300) == stage
