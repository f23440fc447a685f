"""Plans of runs fit the number of images."""

import pytest
import torch
from config_reading import load
from mmengine.config import Config
from tiny_run import DEMO
from torch import nn

from mmvitlin.engine.hooks.average_hook import WeightAverage
from mmvitlin.engine.run_plan import average_hook, choose_batch, plan_run

FULL = 'configs/l2vit/l2vit-tiny_8xb128-accum4-300e_in1k.py'
FINE_TUNING = 'configs/l2vit/l2vit-base_in21k-pre_8xb64-accum2-30e_in1k.py'


@pytest.mark.parametrize(
    'recipe, images, gpus, expected',
    [(64, 160, 1, 16), (64, 160, 2, 8), (64, 20, 1, 4), (128, 10**6, 8, 128), (2, 10**5, 8, 2)],
)
def test_batches_leave_ten_steps_to_an_epoch(recipe, images, gpus, expected):
    assert choose_batch(recipe, images, gpus) == expected


def test_few_images_are_seen_in_many_epochs():
    small = plan_run(Config.fromfile(DEMO), 160, 1, fine_tuning=False)
    large = plan_run(Config.fromfile(DEMO), 100_000, 1, fine_tuning=False)
    assert (small.length, small.steps) == (150, 1500)
    assert large.length == 30
    assert small.warm_up == 8
    assert plan_run(Config.fromfile(DEMO), 160, 1, False, length=3).steps == 30


def test_a_run_of_one_epoch_has_no_warm_up():
    assert plan_run(Config.fromfile(DEMO), 160, 1, fine_tuning=False, length=1).warm_up == 0


def test_the_learning_rate_goes_with_the_root_of_the_batch():
    small = plan_run(Config.fromfile(DEMO), 160, 1, fine_tuning=False)
    assert small.lr == pytest.approx(2e-3 * (16 / 64) ** 0.5)
    assert plan_run(Config.fromfile(DEMO), 640, 4, False).lr == pytest.approx(2e-3)


def test_a_checkpoint_lowers_the_learning_rate_once():
    scratch = plan_run(load(FULL), 2000, 1, fine_tuning=False)
    tuned = plan_run(load(FULL), 2000, 1, fine_tuning=True)
    assert tuned.lr == pytest.approx(scratch.lr / 4, rel=0.02)
    assert tuned.length < scratch.length
    already = load(FINE_TUNING)
    plan = plan_run(already, 2000, 1, fine_tuning=True)
    expected = already.optim_wrapper.optimizer.lr * (plan.batch_size / 1024) ** 0.5
    assert plan.lr == pytest.approx(expected, rel=0.02)


def test_iterations_are_counted_where_the_recipe_counts_them():
    plan = plan_run(load('configs/quickstart/l2vit-micro_upernet_digit-scenes.py'), 160, 1, False)
    assert not plan.by_epoch
    assert plan.length == plan.steps == 1500


def test_a_last_batch_of_one_image_is_dropped():
    assert plan_run(Config.fromfile(DEMO), 161, 1, fine_tuning=False).drop_last
    assert not plan_run(Config.fromfile(DEMO), 160, 1, fine_tuning=False).drop_last


@pytest.mark.parametrize('steps', [30, 78, 1500])
def test_nothing_of_the_initial_weights_is_left_in_the_average(steps):
    options = {k: v for k, v in average_hook().items() if k != 'type'}
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    average = WeightAverage(module, **options)
    with torch.no_grad():
        module.weight.zero_()
        for _ in range(steps):
            average.update_parameters(module)
    assert average.module.weight.item() < 1e-3
