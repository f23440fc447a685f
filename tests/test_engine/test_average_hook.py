"""AverageHook: the average of timm, and which of the two models is evaluated, logged and saved."""

import json

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tiny_run import tiny_config
from torch import nn

from mmvitlin.engine.hooks import AverageHook
from mmvitlin.engine.hooks.average_hook import WeightAverage
from mmvitlin.errors import ConfigError

pytestmark = pytest.mark.slow

WEIGHT = 'head.fc.weight'


class Recorder(Hook):
    """Hook that records the weights before training and after every iteration, and the log."""

    priority = 'LOWEST'

    def __init__(self):
        self.weights, self.metrics = [], []

    def before_train(self, runner):
        self.weights.append(runner.model.head.fc.weight.detach().clone())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.before_train(runner)

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))
        self.after_val_weight = runner.model.head.fc.weight.detach().clone()


def build(work_dir, validate=True, momentum=0.3, evaluate=('average', 'raw'), hook=(), **options):
    if not validate:
        options.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    cfg = tiny_config(work_dir, **options)
    settings = dict(type='mmvitlin.AverageHook', momentum=momentum, evaluate=evaluate)
    cfg.custom_hooks = [{**settings, **dict(hook)}]
    for split in ('train', 'val') if validate else ('train',):
        cfg[f'{split}_dataloader'].collate_fn = dict(type='default_collate')
    runner, recorder = Runner.from_cfg(cfg), Recorder()
    runner.register_hook(recorder)
    return runner, recorder


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, AverageHook))


def averaged(runner):
    return hook_of(runner).ema_model.module.head.fc.weight


def expected_average(weights, momentum, count=1):
    average = weights[0]
    for weight in weights[count::count]:
        average = torch.lerp(average, weight, momentum)
    return average


@pytest.mark.parametrize('count', [1, 3])
def test_it_averages_every_optimizer_step_from_the_initial_weights_on(tmp_path, count):
    runner, recorder = build(tmp_path, validate=False, optim_wrapper__accumulative_counts=count)
    runner.train()
    assert len(recorder.weights) == 10  # the initial ones, and those after nine iterations
    expected = expected_average(recorder.weights, 0.3, count)
    torch.testing.assert_close(averaged(runner), expected)


def test_it_starts_from_the_weights_that_are_loaded(tmp_path):
    runner, _ = build(tmp_path / 'one', validate=False, train_cfg__max_epochs=1)
    runner.train()
    checkpoint = tmp_path / 'one/epoch_1.pth'
    options = dict(load_from=str(checkpoint), train_cfg__max_epochs=1)
    runner, recorder = build(tmp_path / 'two', validate=False, **options)
    runner.train()
    loaded = torch.load(checkpoint, weights_only=True)['state_dict'][WEIGHT]
    assert torch.equal(recorder.weights[0], loaded)
    torch.testing.assert_close(averaged(runner), expected_average(recorder.weights, 0.3))


def test_buffers_are_averaged_and_whole_numbers_copied():
    model = nn.BatchNorm1d(2)
    average = WeightAverage(model, momentum=0.25)
    average.start_from(model)
    model.running_mean.fill_(8.0)
    model.num_batches_tracked.fill_(7)
    average.update_parameters(model)
    assert average.module.running_mean.tolist() == [2.0, 2.0]
    assert int(average.module.num_batches_tracked) == 7


def test_a_warm_up_follows_the_weights_closely_at_first():
    model = nn.Linear(1, 1)
    slow, warm = (WeightAverage(model, 0.01, warmup=warmup) for warmup in (False, True))
    with torch.no_grad():
        before = model.weight.clone()
        model.weight += 1
    for average in (slow, warm):
        average.update_parameters(model)
    torch.testing.assert_close(slow.module.weight, before + 0.01)
    torch.testing.assert_close(warm.module.weight, before + 0.9)
    warm.steps += 889  # 9 / (10 + 890) is the momentum
    before = warm.module.weight.clone()
    warm.update_parameters(model)
    torch.testing.assert_close(warm.module.weight, torch.lerp(before, model.weight, 0.01))


@pytest.mark.parametrize('evaluate', [['raw'], ['average'], ['raw', 'average'], ['average', 'raw']])
def test_each_model_is_evaluated_under_its_name(tmp_path, evaluate):
    runner, recorder = build(tmp_path, evaluate=evaluate, train_cfg__max_epochs=2)
    hook, seen = hook_of(runner), []

    class See(Hook):
        def before_val_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.model.head.fc.weight.detach().clone())

    runner.register_hook(See())
    runner.train()
    raw = recorder.weights[-1]
    assert not torch.equal(raw, averaged(runner))
    by_name = dict(raw=raw, average=hook.ema_model.module.head.fc.weight)
    batches = len(runner.val_dataloader)
    passes = seen[-batches * len(evaluate) :]
    for index, name in enumerate(evaluate):
        for weight in passes[index * batches : (index + 1) * batches]:
            assert torch.equal(weight, by_name[name])
    assert torch.equal(recorder.after_val_weight, raw)
    others = [f'{name}/accuracy/top1' for name in evaluate[1:]]
    assert [*recorder.metrics[-1]] == ['accuracy/top1', *others]
    log = [json.loads(line) for line in next(tmp_path.rglob('scalars.json')).open()]
    validations = [line for line in log if 'accuracy/top1' in line]
    assert len(validations) == 2
    assert all(name in line for line in validations for name in others)


@pytest.mark.parametrize('first', ['raw', 'average'])
def test_checkpoints_hold_the_model_that_they_are_of(tmp_path, first):
    second = 'average' if first == 'raw' else 'raw'
    best = ['accuracy/top1', f'{second}/accuracy/top1']
    runner, recorder = build(
        tmp_path, evaluate=[first, second], default_hooks__checkpoint__save_best=best
    )
    runner.train()
    weights = dict(raw=recorder.weights, average=[recorder.weights[0]])
    for weight in recorder.weights[1:]:
        weights['average'].append(torch.lerp(weights['average'][-1], weight, 0.3))

    def check(path, name, other, epoch):
        checkpoint = torch.load(path, weights_only=True)
        iteration = 3 * epoch
        torch.testing.assert_close(checkpoint['state_dict'][WEIGHT], weights[name][iteration])
        saved = checkpoint['ema_state_dict'][f'module.{WEIGHT}']
        torch.testing.assert_close(saved, weights[other][iteration])
        assert checkpoint['meta']['state_dict'] == name

    for epoch in (2, 3):
        check(tmp_path / f'epoch_{epoch}.pth', first, second, epoch)
    for name, other, prefix in ((first, second, ''), (second, first, f'{second}_')):
        (path,) = tmp_path.glob(f'best_{prefix}accuracy_top1_epoch_*.pth')
        check(path, name, other, int(path.stem[-1]))


@pytest.mark.parametrize('first, second', [('raw', 'average'), ('average', 'raw')])
def test_a_resumed_run_ends_with_the_same_models(tmp_path, first, second):
    best = ['accuracy/top1', f'{second}/accuracy/top1']
    options = dict(evaluate=[first, second], default_hooks__checkpoint__save_best=best)
    whole, _ = build(tmp_path / 'whole', **options)
    whole.train()
    resume = dict(resume=True, load_from=str(tmp_path / 'whole/epoch_2.pth'))
    resumed, recorder = build(tmp_path / 'resumed', **options, **resume)
    resumed.train()
    assert len(recorder.weights) == 4
    assert torch.equal(resumed.model.head.fc.weight, whole.model.head.fc.weight)
    assert torch.equal(averaged(resumed), averaged(whole))


def test_a_checkpoint_of_mmengines_hook_is_resumed(tmp_path):
    cfg = tiny_config(tmp_path / 'theirs', train_cfg__max_epochs=2)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.3, update_buffers=True)]
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].collate_fn = dict(type='default_collate')
    theirs = Runner.from_cfg(cfg)
    theirs.train()
    checkpoint = tmp_path / 'theirs/epoch_2.pth'
    options = dict(resume=True, load_from=str(checkpoint), train_cfg__max_epochs=3)
    runner, recorder = build(tmp_path / 'ours', **options)
    runner.train()
    saved = torch.load(checkpoint, weights_only=True)
    assert torch.equal(recorder.weights[0], saved['ema_state_dict'][f'module.{WEIGHT}'])
    expected = expected_average([saved['state_dict'][WEIGHT], *recorder.weights[1:]], 0.3)
    torch.testing.assert_close(averaged(runner), expected)


def warnings_of(tmp_path, monkeypatch, **settings):
    runner, _ = build(tmp_path, train_cfg__max_epochs=1, **settings)
    said = []
    monkeypatch.setattr(runner.logger, 'log', lambda level, message: said.append(message))
    runner.train()
    return [message for message in said if 'AverageHook' in message]


@pytest.mark.parametrize('evaluate', [['average'], ['raw', 'average']])
def test_an_average_that_stays_near_the_initial_weights_is_warned_of(
    tmp_path, monkeypatch, evaluate
):
    (message,) = warnings_of(tmp_path, monkeypatch, momentum=1e-4, evaluate=evaluate)
    assert 'after the 3 optimizer steps of this training, momentum=0.0001 leaves 100%' in message
    assert 'Give the hook warmup=True' in message


@pytest.mark.parametrize(
    'settings',
    [
        dict(momentum=0.6),  # 6% are left
        dict(momentum=1e-4, evaluate=['raw']),
        dict(momentum=1e-4, hook=dict(warmup=True)),
    ],
)
def test_nothing_is_warned_of_where_what_is_evaluated_has_learned(tmp_path, monkeypatch, settings):
    assert not warnings_of(tmp_path, monkeypatch, **settings)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(evaluate='raw'), "evaluate takes a list of 'raw', 'average' or both, got 'raw'"),
        (dict(evaluate=['both']), 'evaluate takes a list'),
        (dict(momentum=0), 'momentum must be between 0 and 1, got 0'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HOOKS.build(dict(type='mmvitlin.AverageHook', **settings))
