"""benchmarks/: the harness counts, compares and records rightly; no test here waits for a time."""

import argparse
import importlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parent.parent / 'benchmarks'

# Steps made of partials of torch alone: a child process finds them wherever this file lies.
MULTIPLY = partial(partial, torch.mm, torch.ones(8, 8), torch.ones(8, 8))
MULTIPLY_MORE = partial(partial, torch.mm, torch.ones(64, 64), torch.ones(64, 64))
FILL_200_MB = partial(partial, torch.ones, 50_000_000)


@pytest.fixture
def script(monkeypatch):
    """Imports a file of benchmarks/ as a script there would."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def harness(script, monkeypatch):
    module = script('harness')
    monkeypatch.setattr(module, 'TURN_SECONDS', 1e-3)
    return module


@pytest.fixture
def group(harness):
    cases = [harness.Case('more', MULTIPLY_MORE), harness.Case('less', MULTIPLY)]
    return harness.Group('products', peer='less', cases=cases)


@pytest.fixture
def restored_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def options_for(harness, *arguments):
    return harness.option_parser('trial', 'A trial.').parse_args(arguments)


# Rounds and ratios


def test_every_round_runs_each_case_once_and_begins_with_the_next(harness):
    order = []
    turns = {name: partial(lambda name: order.append(name) or 1.0, name) for name in 'abc'}
    results = harness.interleave(turns, rounds=4)
    assert ''.join(order) == 'abc' + 'bca' + 'cab' + 'abc'
    assert results == {name: [1.0] * 4 for name in 'abc'}


def test_ratios_are_taken_within_rounds_against_the_peer(harness, group):
    drifting = {'more': [2.0, 20.0, 300.0], 'less': [1.0, 10.0, 100.0]}
    more, less = harness.summarise(group, drifting, peaks={})['cases']
    assert more['ratio'] == {'min': 2, 'q25': 2, 'median': 2, 'q75': 2.5}
    assert less['ratio'] == {'min': 1, 'q25': 1, 'median': 1, 'q75': 1}
    assert more['seconds'] == {'min': 2, 'q25': 11, 'median': 20, 'q75': 160}


def test_a_turn_times_the_step_with_the_threads_it_is_told(harness):
    seen = set()
    seconds = harness._turn(lambda: seen.add(torch.get_num_threads()), threads=3)()
    assert seen == {3}
    assert seconds > 0


def test_every_case_is_built_with_the_same_random_numbers(harness):
    first, second = (
        harness.build(harness.Case(name, partial(torch.randn, 3))) for name in ('a', 'b')
    )
    assert torch.equal(first, second)


# Memory


def test_a_case_that_fills_200_mb_peaks_200_mb_above_one_that_does_not(harness):
    ballast = torch.ones(100_000_000)  # what this process holds must not hide what a case takes
    small = harness.peak_memory(harness.Case('small', MULTIPLY), 'cpu', threads=1)
    big = harness.peak_memory(harness.Case('big', FILL_200_MB), 'cpu', threads=1)
    assert ballast.nbytes > big > 190e6
    assert 190e6 < big - small < 260e6


def test_a_case_that_is_killed_says_what_to_do(harness):
    with pytest.raises(RuntimeError, match=r"memory of 'killed' .* pass --no-memory"):
        harness.peak_memory(harness.Case('killed', partial(os._exit, 1)), 'cpu', threads=1)


# Reports


def test_the_report_is_complete_and_reloads(harness, group, tmp_path, capsys, restored_threads):
    out = tmp_path / 'new' / 'trial.json'
    arguments = ['--rounds', '3', '--threads', '1', '--out', str(out)]
    report = harness.run([group], options_for(harness, *arguments))
    loaded = json.loads(out.read_text())
    report['options']['out'] = str(out)
    assert loaded == report
    assert list(out.parent.iterdir()) == [out]

    assert loaded['benchmark'] == 'trial'
    assert loaded['options']['rounds'] == 3
    assert loaded['memory'] == 'growth of peak RSS'
    assert loaded['machine']['cpu']
    assert loaded['machine']['threads'] == loaded['options']['threads']
    assert {'python', 'torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmvitlin', 'commit'} <= set(
        loaded['versions']
    )
    (products,) = loaded['groups']
    assert products['peer'] == 'less'
    for case in products['cases']:
        assert len(case['seconds_of_rounds']) == 3
        assert min(case['seconds_of_rounds']) == case['seconds']['min'] > 0
        assert case['peak_memory_bytes'] >= 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| products')]
    assert [row.split(' | ')[1] for row in rows] == ['more', 'less']
    assert ['peer' in row for row in rows] == [False, True]


def test_without_memory_no_child_is_started(
    harness, group, tmp_path, monkeypatch, restored_threads
):
    monkeypatch.setattr(harness, 'peak_memory', None)
    arguments = ['--no-memory', '--rounds', '1', '--out', str(tmp_path / 'trial.json')]
    (products,) = harness.run([group], options_for(harness, *arguments))['groups']
    assert [case['peak_memory_bytes'] for case in products['cases']] == [None, None]


def test_a_write_that_fails_halfway_leaves_the_old_report(harness, tmp_path, monkeypatch):
    out = tmp_path / 'trial.json'
    harness.write_json({'old': True}, out)

    def full_disk(descriptor):
        raise OSError('no space left')

    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(OSError, match='no space left'):
        harness.write_json({'old': False}, out)
    assert json.loads(out.read_bytes()) == {'old': True}


@pytest.mark.parametrize(
    ('value', 'text'), [(0.01234, '0.0123'), (15.96, '16'), (12345.6, '12300')]
)
def test_numbers_are_short_and_without_exponents(harness, value, text):
    assert harness._short(value) == text


# Selection and errors


def test_only_keeps_the_peer(harness, group):
    other = harness.Group('others', peer='less', cases=[harness.Case('less', MULTIPLY)])
    (selected,) = harness.select([group, other], 'products: more')
    assert [case.name for case in selected.cases] == ['more', 'less']
    assert harness.select([group, other], '') == [group, other]


def test_an_empty_selection_says_what_there_is(harness, group):
    with pytest.raises(SystemExit, match=r"'nothing' is in none of\n  products: more\n"):
        harness.select([group], 'nothing')


def test_an_unknown_peer_is_an_error(harness):
    with pytest.raises(ValueError, match=r"peer 'c' is not among \['a', 'b'\]"):
        harness.Group('g', 'c', [harness.Case('a', MULTIPLY), harness.Case('b', MULTIPLY)])


def test_cases_of_one_name_are_an_error(harness):
    with pytest.raises(ValueError, match=r"must differ, got \['a', 'a'\]"):
        harness.Group('g', 'a', [harness.Case('a', MULTIPLY), harness.Case('a', MULTIPLY)])


def test_groups_of_one_name_are_an_error(harness, group):
    with pytest.raises(ValueError, match='names of groups must differ'):
        harness.select([group, group], '')


def test_a_build_that_cannot_travel_is_an_error(harness):
    with pytest.raises(TypeError, match=r"case 'a': build must be .* top of a module"):
        harness.Case('a', lambda: None)


@pytest.mark.parametrize('option', ['--rounds', '--threads', '--warmup'])
def test_counts_must_be_positive(harness, option, capsys):
    with pytest.raises(SystemExit):
        options_for(harness, option, '0')
    assert "expected an integer of at least 1, got '0'" in capsys.readouterr().err


# The scripts


def test_a_script_measures_what_it_defines_itself(tmp_path):
    """Children import the script under another name, and find the harness beside it."""
    (tmp_path / 'harness.py').symlink_to(BENCHMARKS / 'harness.py')
    (tmp_path / 'trial.py').write_text(
        'from harness import Case, Group, option_parser, run\n'
        'import torch\n'
        'def build():\n'
        '    return lambda: torch.ones(8)\n'
        "if __name__ == '__main__':\n"
        "    options = option_parser('trial', 'A trial.').parse_args()\n"
        "    run([Group('group', 'case', [Case('case', build)])], options)\n"
    )
    out = tmp_path / 'trial.json'
    arguments = ['--rounds', '1', '--threads', '1', '--out', str(out)]
    subprocess.run([sys.executable, tmp_path / 'trial.py', *arguments], check=True, timeout=300)
    (group,) = json.loads(out.read_text())['groups']
    assert group['cases'][0]['peak_memory_bytes'] >= 0


def test_every_case_of_l2vit_speed_runs(harness, script):
    images = {'one small image': (1, 3, 224, 224)}
    groups = script('l2vit_speed').groups('cpu', images, linears=['plain', 'onednn'])
    assert [group.peer for group in groups] == ['Swin-tiny'] * 2
    assert [len(group.cases) for group in groups] == [4, 4]
    for group in groups:
        for case in group.cases:
            harness.build(case)()


def test_l2vit_speed_compares_outputs_of_one_shape(script):
    images = torch.ones(1, 3, 224, 224)
    with torch.inference_mode():
        shapes = {build()(images)[0].shape for build in script('l2vit_speed').MODELS.values()}
    assert shapes == {(1, 768, 7, 7)}


def test_linears_are_those_of_all_models_or_none(harness):
    models = {'ours': partial(torch.nn.Linear, 4, 4), 'peer': partial(torch.nn.Linear, 4, 4)}
    both = harness.with_linears(models, ['plain', 'onednn'])
    assert {name: type(build()).__name__ for name, build in both.items()} == {
        'ours': 'Linear',
        'peer': 'Linear',
        'ours, oneDNN linears': 'OneDNNLinear',
        'peer, oneDNN linears': 'OneDNNLinear',
    }
    assert harness.peer_with('peer', ['plain', 'onednn']) == 'peer'
    assert harness.peer_with('peer', ['onednn']) == 'peer, oneDNN linears'


def test_every_case_of_layer_choices_runs(harness, script):
    for group in script('layer_choices').groups('cpu', batch=1):
        for case in group.cases:
            harness.build(case)()


def test_every_case_of_lion_speed_runs_and_gives_as_many_channels(harness, script):
    module = script('lion_speed')
    groups = module.groups('cpu', batch=1, side=32, large=48)
    assert [group.peer for group in groups] == ['DeiT-small'] * 3
    for group in groups:
        for case in group.cases:
            harness.build(case)()
    images = torch.ones(1, 3, 224, 224)
    with torch.inference_mode():
        shapes = {build(224)(images)[0].shape for build in module.MODELS.values()}
    assert shapes == {(1, 384)}


def test_every_case_of_dense_backbones_runs_and_gives_maps_of_a_detector(harness, script):
    module = script('dense_backbones')
    (group,) = module.groups('cpu', sizes=((224, 224),))
    assert group.peer == 'DeiT-small'
    for case in group.cases:
        harness.build(case)()
    levels, images = {}, torch.ones(1, 3, 224, 224)
    for name, build in module.MODELS.items():
        with torch.no_grad():
            levels[name] = [224 // out.shape[2] for out in build((224, 224))(images)]
    for name in ('LION-small D♮', 'DeiT-small'):
        assert levels[name] == [4, 8, 16, 32, 56]  # ceil(224 / 64) rows, 4, are the fifth
    for name in ('L2ViT-tiny', 'Swin-tiny'):
        assert levels[name] == [4, 8, 16, 32]


def test_every_case_of_lion_formats_runs_and_its_forms_agree(harness, script):
    module = script('lion_formats')
    for group in module.groups('cpu', lengths=(5, 70)):
        for case in group.cases:
            harness.build(case)()
    q, k, v = module.inputs(70, 'cpu')
    outs = []
    for form in (module.blocked_chunk_form, module.naive_form):
        torch.manual_seed(1)
        outs.append(module.lion(70, 'cpu', form, selective=True)(q, k, v))
    torch.testing.assert_close(*outs)


def test_every_case_of_token_expansion_runs(harness, script):
    arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
    steps, selection = script('token_expansion').groups('cpu', batch=1, arch=arch, img_size=64)
    assert (steps.peer, selection.peer) == ('dense', 'all similarities')
    for case in (*steps.cases, *selection.cases):
        harness.build(case)()


@pytest.mark.parametrize('stage', [1, 2])
def test_cutting_leaves_as_many_tokens_as_expanding(script, stage):
    module, lengths = script('token_expansion'), []
    arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
    for build in (module.expanded, module.cut):
        model = build(stage, arch=arch, img_size=64, patch_size=8)
        model.layers[1].register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
        model.train()
        model(torch.ones(1, 3, 64, 64))
    assert lengths == [{1: 33, 2: 49}[stage]] * 2


def test_steps_are_compared_with_dense_and_cut_ones_within_rounds(script):
    cases = {'dense': [4.0, 40.0], 'stage 1': [2.0, 20.0], 'cut as at stage 1': [1.0, 10.0]}
    cases = [{'name': name, 'seconds_of_rounds': seconds} for name, seconds in cases.items()]
    lines = script('token_expansion').compare_with_cutting({'groups': [{'cases': cases}]})
    assert lines == ['stage 1: 2.000 times faster than dense, 2.000 of the time of cutting']


def test_every_way_to_make_images_smaller_runs(harness, script):
    for group in script('efficient_train').groups('cpu', batch=1):
        size = int(group.name.rpartition(' ')[-1])
        for case in group.cases:
            assert harness.build(case)().shape[-2:] == (size, size)


def test_digits_train_in_turns(script, capsys):
    changes = {
        'model.backbone.arch.embed_dims': 8,
        'model.backbone.arch.num_heads': 2,
        'model.backbone.arch.num_layers': 2,
        'model.head.in_channels': 8,
        'train_dataloader.dataset.indices': 64,
        'val_dataloader.dataset.indices': 16,
        'train_cfg.max_epochs': 4,
    }
    configs = script('token_expansion').DIGITS
    found = script('trainings').train_in_turns(configs, changes, threads=1)
    assert list(found) == ['baseline', 'token expansion']
    for run in found.values():
        assert 0 <= run['accuracy'] <= 100
        assert len(run['seconds']) == 4 and min(run['seconds']) > 0
    assert capsys.readouterr().err.count('.') == 4  # a round for each epoch


def test_students_of_digits_train_with_and_without_the_same_teacher(script, capsys):
    tiny = {
        'model.backbone.arch.embed_dims': 8,
        'model.backbone.arch.num_heads': 2,
        'model.backbone.arch.num_layers': 2,
        'model.head.in_channels': 8,
    }
    short = {
        'train_dataloader.dataset.indices': 64,
        'val_dataloader.dataset.indices': 16,
        'train_cfg.max_epochs': 1,
    }
    distillation = script('distillation')
    report = distillation.compare([0, 1], {**tiny, **short}, short)
    assert len(report['runs']) == 2
    results = [report['teacher'], *(result for run in report['runs'] for result in run.values())]
    assert all(0 <= result['accuracy'] <= 100 for result in results)
    assert capsys.readouterr().err.count('.') == 5
    table = distillation.markdown({**report, 'options': {'seeds': [0, 1]}})
    assert [line.count('|') for line in table.splitlines()] == [5] * 5 + [0] * 2


def test_the_gain_of_a_teacher_is_the_difference_of_the_means(script):
    runs = [
        {
            'labels alone': dict(accuracy=a, cpu_seconds=1),
            'distilled': dict(accuracy=b, cpu_seconds=2),
        }
        for a, b in ((80, 90), (84, 86))
    ]
    report = dict(teacher=runs[0]['distilled'], runs=runs, options={'seeds': [0, 1]})
    table = script('distillation').markdown(report)
    assert '| student, labels alone | 80.00, 84.00 | 82.00 | 1, 1 |' in table
    assert table.endswith('the teacher adds +6.00 points')


SCRIPTS = [
    'dense_backbones',
    'efficient_train',
    'l2vit_speed',
    'layer_choices',
    'lion_speed',
    'lion_formats',
    'token_expansion',
]


@pytest.mark.parametrize('name', SCRIPTS)
def test_every_group_has_a_name_of_its_own(harness, script, name):
    assert harness.select(script(name).groups('cpu'), '')


def test_a_training_step_changes_the_parameters(harness):
    steps = []

    class Model(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 4)
            steps.append((self, self.weight.detach().clone()))

        def forward(self, x):
            return (super().forward(x),)

    harness.training(Model, (2, 3), 'cpu')()
    ((model, before),) = steps
    assert not torch.equal(model.weight, before)
    assert model.training


def test_every_case_of_vit_llama_runs_and_compares_the_same_numbers(harness, script):
    """With a narrow block; in a training step as well as in what comes out."""
    vit_llama = script('vit_llama')
    llama = dict(embed_dims=64, num_heads=4, feedforward_channels=48, checkpoint='random')
    (group,) = vit_llama.groups('cpu', llama, shape=(1, 3, 32, 32))
    for case in group.cases:
        harness.build(case)()
    images, outs = torch.randn(1, 3, 32, 32), {}
    for name, build in vit_llama.models('cpu', llama).items():
        torch.manual_seed(0)
        model = build()
        model.eval()
        (outs[name],) = model(images)
    expected = outs.pop(group.peer)
    assert torch.allclose(outs['frozen float32 block'], expected, atol=1e-5)
    assert torch.allclose(outs['frozen bfloat16 block'], expected, atol=0.1)


def test_the_peer_of_vit_llama_has_gradients_and_ours_has_none(script):
    vit_llama = script('vit_llama')
    llama = dict(embed_dims=64, num_heads=4, feedforward_channels=48, checkpoint='random')
    for name, build in vit_llama.models('cpu', llama).items():
        model = build()
        model(torch.randn(1, 3, 32, 32))[0].sum().backward()
        gradients = [w.grad for block in model.llama._weights.blocks for w in block.values()]
        assert all((g is None) == (name != vit_llama.PEER) for g in gradients)


def test_the_chain_of_token_labels_ends_with_students_on_the_teachers_maps(script, monkeypatch):
    module, seen = script('token_labels'), []

    def train_students(configs, peer, options):
        (root,) = options.cfg_options.values()
        seen.extend((list(configs), peer, len(list(Path(root).rglob('*.pt')))))
        return {'runs': []}

    monkeypatch.setattr(module, 'compare_trainings', train_students)
    tiny = {
        'train_dataloader.dataset.indices': 32,
        'val_dataloader.dataset.indices': 16,
        'train_cfg.max_epochs': 2,
    }
    report = module.run_chain(argparse.Namespace(cfg_options=None), tiny)
    assert seen == [['LV-ViT', 'LV-ViT, token expansion'], 'LV-ViT', 32]
    assert report.keys() == {'teacher', 'seconds', 'runs'}
    assert 0 <= report['teacher'] <= 100
    assert all(seconds > 0 for seconds in report['seconds'].values())
