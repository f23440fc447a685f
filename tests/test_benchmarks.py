"""Counts, comparisons and records of benchmarks/; no test here depends on a measured time."""

import importlib
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_python import SERVER

from mmvitlin.errors import ConfigError

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parent.parent / 'benchmarks'

# Steps made of partials of torch alone.
MULTIPLY = partial(partial, torch.mm, torch.ones(8, 8), torch.ones(8, 8))
MULTIPLY_MORE = partial(partial, torch.mm, torch.ones(64, 64), torch.ones(64, 64))
FILL_200_MB = partial(partial, torch.ones, 50_000_000)


@pytest.fixture(scope='module')
def script():
    """Imports a file of benchmarks/ as benchmark.py does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture
def harness(script, monkeypatch):
    module = script('harness')
    monkeypatch.setattr(module, 'TURN_SECONDS', 1e-3)
    return module


@pytest.fixture
def rates(harness):
    return harness.Rates({torch.float32: 1e9, torch.bfloat16: 2e9}, 1e9)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def products(harness, **settings):
    """A table of two products, whose rounds drift."""
    cases = [harness.Case('more', MULTIPLY_MORE, peer='less'), harness.Case('less', MULTIPLY)]
    return harness.Table('products', cases, **settings)


# Time


def test_every_round_runs_each_case_once_and_begins_with_the_next(harness):
    order = []
    turns = {name: partial(lambda name: order.append(name) or 1.0, name) for name in 'abc'}
    results = harness.interleave(turns, rounds=4)
    assert ''.join(order) == 'abc' + 'bca' + 'cab' + 'abc'
    assert results == {name: [1.0] * 4 for name in 'abc'}


def test_ratios_are_taken_within_rounds(harness):
    timed = {'more': [2.0, 20.0, 300.0], 'less': [1.0, 10.0, 100.0]}
    more, less = (harness.summarise(case, timed, {}) for case in products(harness).cases)
    assert more['ratio'] == {'min': 2, 'q25': 2, 'median': 2, 'q75': 2.5}
    assert less['ratio'] is None
    assert more['seconds'] == {'min': 2, 'q25': 11, 'median': 20, 'q75': 160}


def test_a_table_is_measured_with_its_threads_and_a_few_rounds(harness, rates, threads):
    measured = harness.measure(products(harness, threads=3), 0, 1, rates, 'cpu')
    assert torch.get_num_threads() == 3
    assert [len(case['seconds_of_rounds']) for case in measured['cases']] == [harness.ROUNDS[0]] * 2


def test_every_case_is_built_with_the_same_random_numbers(harness):
    first, second = (
        harness.build(harness.Case(name, partial(torch.randn, 3))) for name in ('a', 'b')
    )
    assert torch.equal(first, second)


# Roofline


def test_work_counts_products_and_bytes_of_operators_once(harness, rates):
    a, b = torch.ones(30, 10), torch.ones(10, 20)
    product = harness.count_work(lambda: (a @ b).t().contiguous().view(-1), rates)
    assert product.flops == 2 * 30 * 10 * 20
    moved = 4 * (300 + 200 + 600), 4 * (600 + 600)  # product, contiguous copy; views are free
    assert product.seconds == pytest.approx((max(12000, moved[0]) + moved[1]) / 1e9)
    halves = harness.count_work(lambda: a.bfloat16() @ b.bfloat16(), rates)
    assert halves.flops == product.flops


def test_work_includes_attention_and_its_backward(harness, rates):
    q = torch.randn(1, 2, 64, 16, requires_grad=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    forward = 2 * 2 * 2 * 64 * 64 * 16
    with torch.no_grad():
        assert harness.count_work(lambda: attend(q, q, q), rates).flops == forward
    work = harness.count_work(lambda: attend(q, q, q).sum().backward(), rates)
    assert work.flops == forward * 7 // 2


# Memory and quietness


@pytest.mark.parametrize('groups', [1, 6])
def test_a_convolutions_backward_is_twice_its_forward(harness, rates, groups):
    conv, x = torch.nn.Conv2d(6, 12, 3, groups=groups), torch.randn(2, 6, 8, 8, requires_grad=True)
    out = conv(x)
    forward = harness.count_work(lambda: conv(x), rates).flops
    assert forward == 2 * out.numel() * 6 // groups * 9
    backward = harness.count_work(lambda: out.sum().backward(), rates).flops
    assert backward == 2 * forward


def test_a_case_that_fills_200_mb_peaks_200_mb_above_one_that_does_not(harness):
    ballast = torch.ones(100_000_000)  # what this process holds must not hide what a case takes
    small = harness.peak_memory(harness.Case('small', MULTIPLY), 'cpu', threads=1)
    big = harness.peak_memory(harness.Case('big', FILL_200_MB), 'cpu', threads=1)
    assert ballast.nbytes > big > 190e6
    assert 190e6 < big - small < 260e6


def test_a_case_that_is_killed_says_what_to_do(harness):
    with pytest.raises(RuntimeError, match=r"memory of 'killed' .* pass --no-memory"):
        harness.peak_memory(harness.Case('killed', partial(os._exit, 1)), 'cpu', threads=1)


def test_a_machine_that_is_not_quiet_is_said_to_be_so(script, capsys):
    machine = {'load_average': [1.5, 0, 0], 'cores_used_by_others': 0.9, 'cores': 2}
    script('benchmark').warn_of_others(machine)
    assert 'NOT QUIET: other programs use 0.9 of 2 cores' in capsys.readouterr().err
    quietness = script('report').quietness
    assert quietness({'machine': machine}) == '**not quiet**: others used up to 0.9 cores'
    tables = [{'cores_used_by_others': 0.3}]
    machine['cores_used_by_others'] = 0.0
    assert quietness({'machine': machine}) == 'quiet'
    assert quietness({'machine': machine, 'tables': tables}).startswith('**not quiet**')


# A run


def test_a_run_writes_and_prints_complete_reports(script, monkeypatch, tmp_path, capsys, threads):
    benchmark, cases, harness = script('benchmark'), script('cases'), script('harness')
    tables = [products(harness), products(harness)]
    object.__setattr__(tables[1], 'name', 'others')
    group = cases.Group('products', lambda device: tables)
    monkeypatch.setattr(benchmark, 'GROUPS', {'products': group})
    monkeypatch.setattr(
        benchmark, 'measure_rates', partial(harness.measure_rates, side=32, copied=4096)
    )
    options = ['--seconds', '0', '--threads', '1', '--out', str(tmp_path / 'new')]
    benchmark.run(benchmark.parse_args(options))
    report = json.loads((tmp_path / 'new/products.json').read_text())
    assert {'python', 'torch', 'mmengine', 'mmpretrain', 'mmvitlin', 'commit'} <= set(
        report['versions']
    )
    assert report['machine']['cpu'] and report['machine']['threads'] == 1
    for table in report['tables']:
        for case in table['cases']:
            assert min(case['seconds_of_rounds']) == case['seconds']['min'] > 0
            assert case['peak_memory_bytes'] >= 0
            assert case['roofline_share'] > 0
    printed = capsys.readouterr().out.splitlines()
    lines = [line for line in printed if line.startswith(('| products', '| others'))]
    assert [line.split(' | ')[1] for line in lines] == ['more', 'less'] * 2

    options += ['--setting', 'others', '--no-memory']
    reports = benchmark.run(benchmark.parse_args(options))
    (table,) = reports['products']['tables']
    assert table['name'] == 'others'
    assert table['cases'][0]['peak_memory_bytes'] is None
    object.__setattr__(tables[0].cases[0], 'build', dict)  # no step to call
    with pytest.raises(ConfigError, match=r'left out: products: products$'):
        benchmark.run(benchmark.parse_args([*options[:-3], '--no-memory']))
    report = json.loads((tmp_path / 'new/products.json').read_text())
    assert [table['name'] for table in report['tables']] == ['others']
    late = ['--minutes', '0', '--threads', '1', '--out', str(tmp_path / 'late')]
    assert benchmark.run(benchmark.parse_args(late)) == {}
    assert 'others: left out, 0 minutes are over' in capsys.readouterr().err
    assert not (tmp_path / 'late').exists()
    with pytest.raises(ConfigError, match="--setting 'nothing' is in the name of no table"):
        benchmark.run(benchmark.parse_args(['--only', 'products', '--setting', 'nothing']))


def test_without_a_selection_long_groups_are_left_out(script):
    benchmark = script('benchmark')
    selected = benchmark.select(benchmark.parse_args([]))
    assert 'plain-training' in selected and 'vit-llama' not in selected
    assert list(benchmark.select(benchmark.parse_args(['--all']))) == list(benchmark.GROUPS)
    assert list(benchmark.select(benchmark.parse_args(['--only', 'layers']))) == ['layers']


def test_names_that_repeat_or_are_unknown_are_errors(harness):
    case = harness.Case('a', MULTIPLY)
    with pytest.raises(ValueError, match=r"must differ, got \['a', 'a'\]"):
        harness.Table('t', [case, case])
    with pytest.raises(ValueError, match=r"'b' is not among \['a'\]"):
        harness.Table('t', [harness.Case('a', MULTIPLY, peer='b')])
    with pytest.raises(TypeError, match=r"case 'a': build must be .* top of a module"):
        harness.Case('a', lambda: None)


# Reports


def growing(time_exponent, memory_exponent):
    """Tables of a series that grows by powers."""
    return [
        {
            'name': f'{tokens}',
            'series': 's',
            'tokens': tokens,
            'images': None,
            'cores_used_by_others': 0.0,
            'cases': [
                {
                    'name': 'model',
                    'eager': None,
                    'theory': (1, 2),
                    'seconds': dict.fromkeys(('q25', 'median', 'q75'), tokens**time_exponent),
                    'flops': 5 * tokens**2,
                    'peak_memory_bytes': 3 * tokens**memory_exponent,
                    'ratio': None,
                    'eager_ratio': None,
                    'roofline_share': 0.5,
                }
            ],
        }
        for tokens in (100, 1000, 5000)
    ]


def test_exponents_are_fitted_over_tokens_and_drawn(script, tmp_path):
    report = script('report')
    (fit,) = report.fit_exponents(growing(1.25, 0.5))
    assert [round(fit[key], 6) for key in ('time', 'flops', 'memory')] == [1.25, 2, 0.5]
    machine = {'cpu': 'a', 'gpu': None}
    (picture,) = report.draw('g', {'tables': growing(1, 1), 'machine': machine}, tmp_path)
    assert picture.read_text().rstrip().endswith('</svg>')
    assert report.fit_exponents(growing(1, 1)[:2]) == []


def test_blocks_of_a_page_are_replaced_alone(script, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n')
    script('report').fill_blocks(page, {'x': 'new \\1', 'y': 'more'})
    expected = 'a\n<!-- x -->\nnew \\1\n<!-- /x -->\nb\n<!-- y -->\nmore\n<!-- /y -->\n'
    assert page.read_text() == expected
    with pytest.raises(ValueError, match='has 0 blocks <!-- z -->'):
        script('report').fill_blocks(page, {'z': ''})


def test_every_group_has_a_block_in_the_page(script):
    page = (BENCHMARKS / 'README.md').read_text()
    for name in script('cases').GROUPS:
        assert page.count(f'<!-- {name} -->\n') == page.count(f'<!-- /{name} -->') == 1
    assert (BENCHMARKS.parent / 'README.md').read_text().count('<!-- speed -->\n') == 1


def test_rows_of_the_summary_are_measured(script):
    groups = script('cases').GROUPS
    for group, setting, name in script('report').SUMMARY:
        (table,) = (t for t in groups[group].tables('cpu') if t.name == setting)
        (case,) = (c for c in table.cases if c.name == name)
        assert case.peer


@pytest.mark.parametrize(
    ('value', 'text'), [(0.01234, '0.0123'), (15.96, '16'), (12345.6, '12300')]
)
def test_numbers_are_short_and_without_exponents(script, value, text):
    assert script('report').short(value) == text


# The cases


# Images that every model of a family takes: Swin needs a window of seven tokens in its last stage.
SMALLEST = {'HIERARCHICAL': (224, 224), 'PLAIN': (48, 64)}


@pytest.mark.parametrize('family', SMALLEST)
def test_every_model_runs_and_is_compared_on_outputs_of_one_shape(script, harness, family):
    cases, size, shapes = script('cases'), SMALLEST[family], set()
    models = getattr(cases, family)
    for model in models.values():
        with torch.inference_mode():
            outs = model.build(size)(torch.ones(1, 3, *size))
        shapes.add((outs if isinstance(outs, torch.Tensor) else outs[-1]).shape)
    assert len(shapes) == 1
    for step, linears, dtype in (
        ('inference', 'onednn', 'bfloat16'),
        ('training step', 'plain', 'float32'),
    ):
        setting = cases.Setting(step, (1, 3, *size), linears, dtype)
        for case in cases.model_table(models, setting, 'cpu').cases:
            harness.build(case)()


def test_linears_are_onednn_on_both_sides_or_none(script, monkeypatch):
    cases, changed = script('cases'), []
    monkeypatch.setattr(cases, 'use_onednn_linears', changed.append)
    for linears in ('plain', 'onednn'):
        setting = cases.Setting('inference', (1, 3, 224, 224), linears)
        for case in cases.model_table(
            cases.models_of('L2ViT-tiny', 'Swin-tiny'), setting, 'cpu'
        ).cases:
            case.build()
        assert len(changed) == (2 if linears == 'onednn' else 0)


def test_compiled_cases_compile_and_have_their_eager_twins(script, monkeypatch):
    cases = script('cases')
    setting = cases.Setting('inference', (1, 3, 64, 64), compiled=True)
    table = cases.model_table(cases.models_of('LION-D', 'DeiT-small'), setting, 'cpu')
    assert [(c.name, c.peer, c.eager) for c in table.cases] == [
        ('LION-D', 'DeiT-small', None),
        ('DeiT-small', None, None),
        ('LION-D, compiled', 'DeiT-small, compiled', 'LION-D'),
        ('DeiT-small, compiled', None, 'DeiT-small'),
    ]
    compiled = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: compiled.append(self))
    for case in table.cases:
        case.build()
    assert [type(model).__name__ for model in compiled] == ['LION', 'VisionTransformer']


def test_a_detectors_models_give_its_maps(script):
    levels = {}
    for name, model in script('cases').DETECTOR.items():
        with torch.no_grad():
            outs = model.build((224, 224))(torch.ones(1, 3, 224, 224))
        levels[name] = [224 // out.shape[2] for out in outs]
    assert levels.pop('L2ViT-tiny') == levels.pop('Swin-tiny') == [4, 8, 16, 32]
    assert set(map(tuple, levels.values())) == {(4, 8, 16, 32, 56)}  # the fifth has 4 rows


def test_attentions_run_and_the_forms_of_lion_agree(script, harness):
    cases = script('cases')
    for table in cases.attention('cpu', lengths=(5, 70)):
        for case in table.cases:
            harness.build(case)()
    q, k, v = (torch.rand(1, cases.HEADS, 70, cases.WIDTH) for _ in range(3))
    outs = []
    for format in ('Chunk', 'Attention', 'auto'):
        torch.manual_seed(1)
        outs.append(cases.lion_attention(70, 'cpu', format, selective=True)(q, k, v))
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0])


@pytest.mark.parametrize('stage', [1, 2])
def test_cutting_leaves_as_many_tokens_as_expanding(script, monkeypatch, stage):
    cases, lengths = script('cases'), []
    arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16)
    small = partial(cases.VisionTransformer, arch, patch_size=8)
    monkeypatch.setattr(cases, 'deit', lambda size: small(img_size=size))
    for build in (cases.at_stage, cases.cut_as_at_stage):
        model = build(stage, (64, 64))
        model.layers[1].register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
        model.train()
        model(torch.ones(1, 3, 64, 64))
    assert lengths == [{1: 33, 2: 49}[stage]] * 2


def test_layers_run(script, harness):
    for table in script('cases').layers('cpu', batch=1):
        for case in table.cases:
            harness.build(case)()


def test_the_frozen_block_of_vit_llama_has_no_gradients_and_its_peer_has(script):
    """With a narrow block; the outputs agree."""
    llama = dict(embed_dims=64, num_heads=4, feedforward_channels=48, checkpoint='random')
    images, outs = torch.randn(1, 3, 32, 32), {}
    cases = script('cases')
    for name, model in cases.llama_models('cpu', llama).items():
        torch.manual_seed(0)
        built = model.build((32, 32)).eval()
        (outs[name],) = built(images)
        outs[name].sum().backward()
        gradients = [w.grad for block in built.llama._weights.blocks for w in block.values()]
        assert all((g is None) == (model.peer is not None) for g in gradients)
    expected = outs.pop(cases.UNFROZEN)
    assert torch.allclose(outs['frozen float32 block'], expected, atol=1e-5)
    assert torch.allclose(outs['frozen bfloat16 block'], expected, atol=0.1)


def test_input_pipelines_run_over_the_same_images(script, harness, monkeypatch):
    module = script('input_pipelines')
    monkeypatch.setattr(module, 'IMAGES', 8)
    monkeypatch.setattr(module, 'SIZES', {'small': [(90, 120)]})
    module.write_images.cache_clear()
    (table,) = module.input_tables('cpu')
    assert [case.name for case in table.cases if case.peer is None] == [module.TIMM]
    for case in table.cases:
        harness.build(case)()
    image = module.photograph(40, 50, np.random.default_rng(0))
    assert image.shape == (40, 50, 3) and 30 < image.std() < 70


# Trainings

TINY = {
    'model.backbone.arch.embed_dims': 8,
    'model.backbone.arch.num_heads': 2,
    'model.backbone.arch.num_layers': 2,
    'model.head.in_channels': 8,
}
SHORT = {'train_dataloader.dataset.indices': 32, 'val_dataloader.dataset.indices': 16}


def test_curricula_train_in_turns_beside_the_bound_of_their_plan(script, monkeypatch, capsys):
    trainings = script('trainings')
    monkeypatch.setattr(trainings, 'get_context', lambda _: SERVER)  # starts sooner than 'spawn'
    found = trainings.curricula(1, True, **TINY, **SHORT)['rows']
    assert [row['name'] for row in found] == [
        'baseline',
        'token expansion',
        'EfficientTrain',
        'both',
    ]
    assert capsys.readouterr().err.count('.') == trainings.QUICK_EPOCHS
    bounds = [row['bound'] for row in found]
    assert bounds[0] is None
    assert 1 < bounds[1] < bounds[3] and 1 < bounds[2] < bounds[3]
    for row in found[1:]:
        assert row['share'] == pytest.approx(row['faster'] / row['bound'])
        assert 0 <= row['accuracy'] <= 100


@pytest.mark.parametrize('group', ['distillation', 'token_labels'])
def test_students_train_after_their_teacher(script, monkeypatch, group):
    """They read its output: a checkpoint, or a label map per image."""
    trainings, seen = script('trainings'), []

    def train_in_turns(students, threads, **changes):
        left = changes.get('train_dataloader.dataset.label_root')
        checkpoints = [s.changes.get('model.teacher.checkpoint') for s in students.values()]
        seen.extend(Path(left).rglob('*.pt') if left else filter(os.path.exists, checkpoints))
        return {name: {'accuracy': 50.0, 'seconds': [2.0, 1.0]} for name in students}

    monkeypatch.setattr(trainings, 'train_in_turns', train_in_turns)
    rows = getattr(trainings, group)(1, True, **SHORT)['rows']
    assert len(seen) == (32 if group == 'token_labels' else 2)
    assert [row['faster'] for row in rows[-2:]] == [1, 1]
    assert rows[0]['name'] == 'teacher' and 0 <= rows[0]['accuracy'] <= 100


def test_few_labels_are_learned_from_scratch_and_after_pre_training(script, monkeypatch):
    trainings, trained = script('trainings'), []

    def train(cfg, folder):
        trained.append(cfg)
        Path(folder).mkdir(parents=True)
        Path(folder, 'last_checkpoint').write_text(f'{folder}/epoch_2.pth')
        return None if cfg.val_dataloader is None else 50.0

    monkeypatch.setattr(trainings, 'train', train)
    rows = trainings.pre_training(1, True)['rows']
    assert len(rows) == 2 * 3 * trainings.SEEDS
    for first, then, scratch in zip(trained[::3], trained[1::3], trained[2::3]):
        assert first.val_dataloader is None and then.load_from.endswith('first/epoch_2.pth')
        assert scratch.load_from is None
        assert {cfg.randomness.seed for cfg in (first, then, scratch)} == {first.randomness.seed}
        for cfg in (then, scratch):
            assert cfg.train_dataloader.dataset.indices == trainings.LABELLED
            cfg.pop('load_from')
        assert then.to_dict() == scratch.to_dict()
