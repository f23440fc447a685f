"""The hook: the tokens that a model trains on at each epoch, and resuming."""

import copy
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import mmpretrain.models as hosts
import pytest
import torch
from fresh_python import run_ranks
from goldens import load_golden, relative_error
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from same_states import assert_same
from test_engine.test_resume import stop_before
from tiny_run import ROOT, cfg_options

from mmvitlin.curricula import TokenExpansionHook
from mmvitlin.curricula.hook import build_hooks
from mmvitlin.curricula.model_parts import find_averages, find_backbone
from mmvitlin.curricula.schedule import epoch_length
from mmvitlin.errors import ConfigError
from mmvitlin.models import LION
from mmvitlin.ops.token_expansion import expand_tokens

pytestmark = pytest.mark.slow

CONFIG = ROOT / 'configs/quickstart/vit-micro_toe_1xb64_digits.py'
EPOCHS = 4
TINY_ARCH = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)
TINY = {
    'model.backbone.arch': TINY_ARCH,
    'model.backbone.drop_path_rate': 0.1,
    'model.head.in_channels': 8,
    'train_dataloader.dataset.indices': 48,
    'train_dataloader.batch_size': 16,
    'val_dataloader.dataset.indices': 32,
    'default_hooks.checkpoint.interval': 1,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'default_hooks.logger.interval': 1,
    'train_cfg.max_epochs': EPOCHS,
    'custom_hooks.1.expansion_step': (0, 1, 3),
}


def config(work_dir, **options):
    """A run of seconds: stage 1 in epoch 0, stage 2 in epochs 1 and 2, all tokens in epoch 3."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({**TINY, **{key.replace('__', '.'): v for key, v in options.items()}})
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir).replace('/', '_') + str(options)
    return cfg


def vit(**settings):
    return hosts.VisionTransformer(
        **{**dict(arch=TINY_ARCH, img_size=32, patch_size=4), **settings}
    )


def attached(model, epoch=0, **settings):
    hook = TokenExpansionHook(**settings)
    hook.attach(model)
    hook.set_epoch(epoch)
    return hook


def record_lengths(backbone, layer=2):
    """A list that gets the number of tokens of each call of a layer."""
    lengths = []
    backbone.layers[layer].register_forward_pre_hook(
        lambda _, inputs: lengths.append(inputs[0].shape[1])
    )
    return lengths


# Numbers


def mmpretrains_name(name):
    """The name in mmpretrain's classifier of a weight of the original DeiT."""
    for old, new in [
        ('patch_embed.proj', 'patch_embed.projection'),
        ('blocks.', 'layers.'),
        ('.norm', '.ln'),
        ('mlp.fc1', 'ffn.layers.0.0'),
        ('mlp.fc2', 'ffn.layers.1'),
    ]:
        name = name.replace(old, new)
    if name.startswith('norm.'):
        name = name.replace('norm.', 'ln1.')
    return name.replace('head.', 'head.layers.head.') if name.startswith('head.') else name


def test_logits_are_the_originals_at_every_stage():
    golden = load_golden('deit_toe')
    arch = dict(
        embed_dims=golden.kwargs['embed_dim'],
        num_layers=golden.kwargs['depth'],
        num_heads=golden.kwargs['num_heads'],
        feedforward_channels=4 * golden.kwargs['embed_dim'],
    )
    backbone = vit(arch=arch, img_size=golden.kwargs['img_size'], patch_size=16).double()
    head = hosts.VisionTransformerClsHead(10, arch['embed_dims']).double()
    weights = {mmpretrains_name(name): value for name, value in golden.weights.items()}
    backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith('head.')})
    head.load_state_dict({k[5:]: v for k, v in weights.items() if k.startswith('head.')})
    hook = attached(backbone, **golden.meta['toe'])
    lengths = record_lengths(backbone)
    backbone.train()
    for stage, epoch in {1: 99, 2: 100, 3: 299}.items():
        hook.set_epoch(epoch)
        assert hook.stage == stage
        logits = head(backbone(golden.images))
        assert relative_error(logits, golden.outputs[f'logits_stage{stage}']) < 1e-5
        assert lengths[-1] == golden.outputs[f'num_tokens_stage{stage}']
    hook.set_epoch(0)
    backbone.eval()
    assert relative_error(head(backbone(golden.images)), golden.outputs['logits_dense']) < 1e-5


@pytest.mark.parametrize(
    ('build', 'lengths'),
    [
        (lambda: vit(), [33, 49, 65]),
        (lambda: vit(with_cls_token=False, out_type='avg_featmap'), [32, 48, 64]),
        (
            lambda: hosts.DistilledVisionTransformer(TINY_ARCH, img_size=32, patch_size=4),
            [34, 50, 66],
        ),
    ],
    ids=['class token', 'none', 'class and distillation token'],
)
def test_training_sees_the_tokens_of_the_stage_and_evaluation_all(build, lengths):
    backbone = build()
    hook = TokenExpansionHook()
    costs, seen = hook.attach(backbone), record_lengths(backbone)
    images = torch.randn(2, 3, 32, 32)
    for epoch in (0, 100, 200):
        hook.set_epoch(epoch)
        backbone.train()
        backbone(images)
        backbone.eval()
        backbone(images)
    assert seen[0::2] == lengths == [cost.num_tokens for cost in costs[1:]]
    assert seen[1::2] == [lengths[-1]] * 3


def test_the_reduction_is_the_op_at_the_input_of_the_layer():
    settings = dict(
        keep_rate=(0.4, 0.7, 1.0),
        initialization_keep_rate=0.2,
        expansion_multiple_stage=3,
        distance='manhattan',
    )
    backbone = vit(arch=dict(TINY_ARCH, num_layers=4), final_norm=False)
    attached(backbone, layer=2, **settings)
    inputs = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda _, args, out: inputs.append(out))
    backbone.train()
    (out,) = backbone(torch.randn(2, 3, 32, 32))
    first, second, third, fourth = inputs
    assert first.shape[1] == second.shape[1] == 65
    expected, _ = expand_tokens(second, 1, **settings)
    torch.testing.assert_close(backbone.layers[2].forward(expected), third)
    assert torch.equal(out, fourth[:, 0])


def test_single_frozen_layers_do_not_decide():
    backbone = vit(frozen_stages=2)
    attached(backbone)
    lengths = record_lengths(backbone)
    backbone.train()
    backbone._freeze_stages()
    assert not backbone.layers[1].training
    backbone(torch.randn(1, 3, 32, 32))
    assert lengths == [33]


def test_sparse_evaluation_is_asked_for():
    backbone = vit()
    attached(backbone, sparse_eval=True)
    lengths = record_lengths(backbone)
    backbone.eval()
    backbone(torch.randn(1, 3, 32, 32))
    assert lengths == [33]


def test_every_parameter_gets_its_gradient():
    backbone = vit()
    attached(backbone)
    backbone.train()
    backbone(torch.randn(2, 3, 32, 32))[0].pow(2).sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


# Models around the backbone


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_data_parallel_models_are_unwrapped(one_process):
    model = vit()
    wrapped = MMDistributedDataParallel(model, device_ids=None)
    attached(wrapped)
    lengths = record_lengths(model)
    wrapped.train()
    wrapped(torch.randn(1, 3, 32, 32))
    assert lengths == [33]


@pytest.mark.parametrize(
    'wrap',
    [
        lambda model: torch.compile(model, backend='eager'),
        lambda model: torch.compile(MMDistributedDataParallel(model), backend='eager'),
        lambda model: MMDistributedDataParallel(torch.compile(model, backend='eager')),
        ExponentialMovingAverage,
    ],
    ids=['compiled', 'compiled data parallel', 'data parallel compiled', 'average'],
)
def test_the_backbone_is_found_inside(one_process, wrap):
    wrapped = wrap(vit())
    backbone = find_backbone(wrapped)
    assert type(backbone) is hosts.VisionTransformer
    attached(wrapped)
    lengths = record_lengths(backbone)
    backbone.train()
    backbone(torch.randn(1, 3, 32, 32))
    assert lengths == [33]


def test_the_backbone_is_found_inside_augmented_models():
    backbone = dict(type='mmpretrain.VisionTransformer', arch=TINY_ARCH)
    model = dict(type='mmpretrain.ImageClassifier', backbone=backbone)
    augmented = hosts.AverageClsScoreTTA(model)
    assert find_backbone(augmented) is augmented.module.backbone


def test_the_reduction_is_short_to_read():
    model = vit()
    attached(model)
    step = repr(model.token_expansion)
    assert 'Linear' not in step and "distance='cosine'" in step


@pytest.mark.parametrize('build', [vit, lambda: LION(TINY_ARCH, 32, 4)], ids=['ViT', 'LION'])
@pytest.mark.parametrize('other', ['the same hook', 'another hook'])
@pytest.mark.parametrize('is_copy', [False, True], ids=['the model', 'a copy'])
def test_a_model_that_is_reduced_already_is_reduced_once(build, other, is_copy):
    model = build()
    hook = attached(model)
    target = copy.deepcopy(model) if is_copy else model
    if other == 'another hook':
        hook = TokenExpansionHook(keep_rate=(0.25, 0.75, 1.0))
    hook.attach(target)
    hook.set_epoch(0)
    lengths = record_lengths(target)
    target.train()
    target(torch.randn(1, 3, 32, 32))
    assert lengths == [17 if other == 'another hook' else 33]
    hook.set_epoch(100)
    target(torch.randn(1, 3, 32, 32))
    assert lengths[1:] == [49]


@pytest.mark.parametrize('sparse_eval', [False, True])
def test_averages_that_are_attached_to_go_by_their_own_mode_and_follow_the_stage(sparse_eval):
    model = vit()
    hook = attached(model, sparse_eval=sparse_eval)
    average = ExponentialMovingAverage(model)
    hook.attach(average)
    lengths = record_lengths(average.module)
    images = torch.randn(1, 3, 32, 32)
    model.train()
    average.eval()
    average(images)
    hook.set_epoch(100)
    average(images)
    assert lengths == ([33, 49] if sparse_eval else [65, 65])
    average.train()
    model.eval()
    average(images)
    assert lengths[-1] == 49


def test_copies_keep_the_stage_that_they_were_copied_at():
    model = vit()
    hook = attached(model)
    copied = copy.deepcopy(model)
    hook.set_epoch(100)
    lengths, copied_lengths = record_lengths(model), record_lengths(copied)
    for each in (model, copied):
        each.train()
        each(torch.randn(1, 3, 32, 32))
    assert (lengths, copied_lengths) == ([49], [33])


def test_the_model_still_pickles():
    model = vit()
    attached(model)
    copied = pickle.loads(pickle.dumps(model))
    lengths = record_lengths(copied)
    copied.train()
    copied(torch.randn(1, 3, 32, 32))
    assert lengths == [33]


def test_state_dicts_are_those_of_the_dense_model():
    model, plain = vit(), vit()
    attached(model)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_a_compiled_model_follows_the_stages_and_modes_in_whole_graphs():
    torch._dynamo.reset()
    eager = vit()
    for module in eager.modules():
        if hasattr(module, 'drop_prob'):  # numpy's numbers, which mmcv branches on, break graphs
            module.drop_prob = float(module.drop_prob)
    model = copy.deepcopy(eager)
    hook, eager_hook = attached(model), attached(eager)
    compiled = torch.compile(model, fullgraph=True, backend='aot_eager_decomp_partition')
    images = torch.randn(2, 3, 32, 32)
    try:
        for epoch, mode in ((0, True), (0, False), (100, True), (200, True)):
            hook.set_epoch(epoch)
            eager_hook.set_epoch(epoch)
            model.train(mode)
            eager.train(mode)
            out, expected = compiled(images)[0], eager(images)[0]
            torch.testing.assert_close(out, expected)
            out.sum().backward()
    finally:
        torch._dynamo.reset()


# Arguments


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(keep_rate=(0.5, 0.75, 1.5)), r'above 0 and at most 1, got \[0\.5, 0\.75, 1\.5\]'),
        (dict(keep_rate=(0.0, 0.5, 1.0)), r'above 0 and at most 1, got \[0\.0, 0\.5, 1\.0\]'),
        (dict(keep_rate=(0.75, 0.5, 1.0)), r'keep_rate must increase .* got \[0\.75, 0\.5, 1\.0\]'),
        (dict(expansion_step=(0, 200, 100)), r'must increase from 0 .* got \[0, 200, 100\]'),
        (dict(expansion_step=(-1, 100, 200)), r'must increase from 0 .* got \[-1, 100, 200\]'),
        (dict(expansion_step=(0, 0.5, 200)), r'all below 1, got \[0, 0\.5, 200\]'),
        (dict(expansion_step=(0, 100)), r'one entry per stage, got 2 and 3'),
        (dict(expansion_step=(), keep_rate=()), r'must increase from 0 or more, got \[\]'),
        (dict(initialization_keep_rate=0.6), r'at most the first keep_rate, 0\.5, got 0\.6'),
        (dict(initialization_keep_rate=0), r'must be above 0'),
        (dict(expansion_multiple_stage=0), r'at least 1, got 0'),
        (dict(keep_rate=0.5), r'keep_rate must be a sequence of numbers, got 0\.5'),
        (
            dict(keep_rate=('0.5', 0.75, 1.0)),
            r"keep_rate must be a seq.* numbers, got '0\.5'",
        ),
        (dict(keep_rate=(0.5, float('nan'), 1.0)), r'keep_rate must be finite, got \[0\.5, nan'),
        (dict(expansion_step=0), r'expansion_step must be a sequence of numbers, got 0'),
        (dict(expansion_step='abc'), r"expansion_step must be a sequence of numbers, got 'a'"),
        (dict(expansion_step=(0, 1, float('inf'))), r'expansion_step must be finite, got .* inf'),
        (dict(expansion_step=(0, 1, float('nan'))), r'expansion_step must be finite, got .* nan'),
        (
            dict(initialization_keep_rate='0.2'),
            r"on_keep_rate must be a number, got '0\.2'",
        ),
        (
            dict(expansion_multiple_stage=1.5),
            r'_stage must be an integer, got 1\.5',
        ),
        (dict(expansion_multiple_stage=True), r'_stage must be an integer, got True'),
        (dict(layer=1.0), r'layer must be an integer, got 1\.0'),
        (dict(distance=['cosine']), r"distance must be a name, got \['cosine'\]"),
        (dict(distance='hamming'), r"one of cosine, .*, got 'hamming'"),
    ],
)
def test_arguments_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HOOKS.build(dict(type='mmvitlin.TokenExpansionHook', **settings))


def test_the_hook_of_a_config_may_have_a_priority():
    hook = dict(type='mmvitlin.TokenExpansionHook', layer=2, priority='HIGH')
    cfg = Config(dict(custom_hooks=[dict(type='EMAHook'), hook]))
    assert build_hooks(cfg)[0].expansion.layer == 2
    assert cfg.custom_hooks[1].priority == 'HIGH'


def test_a_run_with_a_dense_output_ends_before_it_begins(tmp_path):
    cfg = config(tmp_path, custom_hooks__1__expansion_step=(1, 2, 3))
    cfg.model.backbone.out_type = 'featmap'
    runner = Runner.from_cfg(cfg)
    with pytest.raises(ConfigError, match=r"out_type='featmap' needs every token"):
        runner.train()
    assert runner.iter == 0


# Runs


class Lengths(Hook):
    """Keeps the number of tokens in the last layer for every training and validation step."""

    def __init__(self):
        self.train, self.val = [], []

    def before_train(self, runner):
        self.seen = record_lengths(runner.model.backbone)

    before_test = before_train

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.train.append(self.seen[-1])

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.val.append(self.seen[-1])


def run(cfg):
    runner, lengths = Runner.from_cfg(cfg), Lengths()
    runner.register_hook(lengths, priority='LOWEST')
    runner.train()
    return lengths


def stages_logged(folder):
    """Stages in the log, in its order: (where, stage, tokens)."""
    log = max(Path(folder).glob('*/*.log'), key=lambda path: path.stat().st_mtime).read_text()
    found = re.findall(
        r'Token expansion: (\w+ \d+) is in stage (\d) of \d, (\d+) of \d+ tokens', log
    )
    return [(where, int(stage), int(tokens)) for where, stage, tokens in found]


def checkpoint(work_dir, epoch=EPOCHS):
    return torch.load(Path(work_dir) / f'epoch_{epoch}.pth', weights_only=True)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('undisturbed')
    lengths = run(config(work_dir))
    return work_dir, lengths


def test_a_run_goes_through_the_stages_and_logs_them(undisturbed):
    work_dir, lengths = undisturbed
    assert lengths.train == [33] * 3 + [49] * 6 + [65] * 3
    assert stages_logged(work_dir) == [('epoch 0', 1, 33), ('epoch 1', 2, 49), ('epoch 3', 3, 65)]
    log = next(work_dir.glob('*/*.log')).read_text()
    plan = re.search(
        r'25% of the training on images of 32 x 32 and 33 tokens \((0\.\d+) of the .*'
        r'at most (1\.\d+)x faster',
        log,
    )
    assert 0.4 < float(plan[1]) < 1 < float(plan[2]) < 1.5


@pytest.mark.parametrize('priority', ['ABOVE_NORMAL', 'LOW'], ids=['before EMAHook', 'after it'])
def test_the_average_of_a_run_follows_its_stages(tmp_path, priority):
    cfg = config(tmp_path, custom_hooks__1__priority=priority)
    runner, stages = Runner.from_cfg(cfg), []

    class Stages(Hook):
        def after_train_epoch(self, runner):
            (average,) = find_averages(runner)
            assert average.module.backbone is not runner.model.backbone
            stages.append(average.module.backbone.token_expansion.stage)

    runner.register_hook(Stages())
    runner.train()
    assert stages == [1, 2, 2, 3]


def test_the_averaged_model_evaluates_dense(undisturbed):
    work_dir, lengths = undisturbed
    assert set(lengths.val) == {65}
    assert 'ema_state_dict' in checkpoint(work_dir)


@pytest.mark.parametrize('epoch', [1, 2, 3])
def test_resume_continues_bit_for_bit(undisturbed, tmp_path, epoch):
    """At the start of stage 2, inside it, and at the start of stage 3."""
    stop_before(epoch, config(tmp_path))
    lengths = run(config(tmp_path, resume=True))
    work_dir, expected = undisturbed
    assert lengths.train == expected.train[3 * epoch :]
    stage, tokens = (2, 49) if epoch < 3 else (3, 65)
    assert (f'epoch {epoch}', stage, tokens) in stages_logged(tmp_path)
    for done in range(epoch + 1, EPOCHS + 1):
        ours, theirs = checkpoint(tmp_path, done), checkpoint(work_dir, done)
        for key in ('state_dict', 'ema_state_dict', 'optimizer', 'random_states'):
            assert_same(ours[key], theirs[key], f'{done}: {key}')


def test_weights_depend_on_the_stage(undisturbed, tmp_path):
    """The test above would fail if resuming went to another stage."""
    work_dir, _ = undisturbed
    resumed = config(tmp_path, resume=True, load_from=str(work_dir / 'epoch_1.pth'))
    resumed.custom_hooks[1].expansion_step = (0, 2, 3)
    run(resumed)
    with pytest.raises(AssertionError):
        assert_same(checkpoint(tmp_path, 2)['state_dict'], checkpoint(work_dir, 2)['state_dict'])


def test_fractions_are_of_the_training(undisturbed, tmp_path):
    run(config(tmp_path, custom_hooks__1__expansion_step=(0, 0.25, 0.75)))
    work_dir, _ = undisturbed
    assert stages_logged(tmp_path) == stages_logged(work_dir)
    assert_same(checkpoint(tmp_path)['state_dict'], checkpoint(work_dir)['state_dict'])


@pytest.mark.parametrize(
    ('steps', 'sampler'),
    [
        ((0, 0.25, 0.75), 'DefaultSampler'),
        ((0, 1, 3), 'DefaultSampler'),
        ((0, 1, 3), 'InfiniteSampler'),
    ],
    ids=['fractions', 'epochs', 'epochs of an endless sampler'],
)
def test_loops_by_iteration_go_through_the_same_stages(tmp_path, steps, sampler):
    cfg = config(tmp_path, custom_hooks__1__expansion_step=steps)
    cfg.train_cfg = dict(by_epoch=False, max_iters=12, val_interval=5)
    cfg.train_dataloader.sampler.type = sampler
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=5)
    lengths = run(cfg)
    assert lengths.train == [33] * 3 + [49] * 6 + [65] * 3
    assert set(lengths.val) == {65}
    expected = [('iteration 0', 1, 33), ('iteration 3', 2, 49), ('iteration 9', 3, 65)]
    assert stages_logged(tmp_path) == expected

    resumed = config(tmp_path / 'resumed', custom_hooks__1__expansion_step=steps, resume=True)
    for key in ('train_cfg', 'train_dataloader', 'param_scheduler', 'default_hooks'):
        resumed[key] = cfg[key]
    resumed.load_from = str(tmp_path / 'iter_5.pth')
    assert run(resumed).train == [49] * 4 + [65] * 3
    assert stages_logged(tmp_path / 'resumed')[0] == ('iteration 5', 2, 49)


@pytest.mark.parametrize(('sampler', 'epochs'), [(InfiniteSampler, 8), (DefaultSampler, 4)])
@pytest.mark.parametrize('in_batches', [False, True], ids=['sampler', 'batch sampler'])
def test_an_epoch_is_a_pass_of_all_processes(monkeypatch, sampler, epochs, in_batches):
    """16 images in batches of 2, and two processes, of which a default sampler knows nothing."""
    monkeypatch.setattr('mmvitlin.curricula.schedule.get_world_size', lambda: 2)
    sampler = sampler(range(16), shuffle=False)
    options = dict(batch_size=2, sampler=sampler)
    if in_batches:
        options = dict(batch_sampler=torch.utils.data.BatchSampler(sampler, 2, drop_last=True))
    loader = torch.utils.data.DataLoader(range(16), **options)
    assert 32 / epoch_length(SimpleNamespace(dataloader=loader)) == epochs


def test_a_compiled_run_goes_through_the_same_stages(undisturbed, tmp_path):
    work_dir, lengths = undisturbed
    torch._dynamo.reset()
    try:
        compiled = run(config(tmp_path, compile=dict(backend='eager')))
    finally:
        torch._dynamo.reset()
    assert compiled.train == lengths.train
    assert stages_logged(tmp_path) == stages_logged(work_dir)
    ours, theirs = checkpoint(tmp_path)['state_dict'], checkpoint(work_dir)['state_dict']
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, msg=name)


def test_lion_with_decay_trains(tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/quickstart/lion-d-natural-micro_1xb64_digits.py')
    tiny = {key: value for key, value in TINY.items() if 'custom_hooks' not in key}
    cfg.merge_from_dict(tiny)
    cfg.custom_hooks += [dict(type='mmvitlin.TokenExpansionHook', expansion_step=(0, 1, 3))]
    cfg.work_dir = cfg.experiment_name = str(tmp_path)
    lengths = run(cfg)
    assert lengths.train == [33] * 3 + [49] * 6 + [65] * 3
    assert set(lengths.val) == {65}
    weights = [checkpoint(tmp_path, epoch)['state_dict'] for epoch in (1, 2)]
    for name, value in weights[0].items():
        assert value.isfinite().all() and not torch.equal(value, weights[1][name]), name


def test_stages_that_training_never_reaches_are_logged(tmp_path):
    cfg = config(tmp_path, custom_hooks__1__expansion_step=(0, 2, 200))
    cfg.train_cfg.max_epochs, cfg.param_scheduler = 1, None
    run(cfg)
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.findall(r'WARNING.*too short for (stage . of 3, where expansion_step .*)', log) == [
        'stage 2 of 3, where expansion_step is 2',
        'stage 3 of 3, where expansion_step is 200',
    ]


def test_a_test_without_training_is_at_the_last_stage(undisturbed, tmp_path):
    work_dir, _ = undisturbed
    options = dict(
        load_from=str(work_dir / 'epoch_4.pth'),
        custom_hooks__1__keep_rate=(0.3, 0.5, 0.75),
        custom_hooks__1__sparse_eval=True,
    )
    runner, lengths = Runner.from_cfg(config(tmp_path, **options)), Lengths()
    runner.register_hook(lengths, priority='LOWEST')
    runner.test()
    assert set(lengths.seen) == {48}


def test_two_processes_log_the_same_stages(tmp_path):
    options = {key.replace('.', '__'): value for key, value in TINY.items() if 'arch' not in key}
    options.update({f'model__backbone__arch__{key}': value for key, value in TINY_ARCH.items()})
    options.update(train_cfg__max_epochs=4, log_level='DEBUG')  # with which every process logs
    run_ranks(ROOT / 'tools/train.py', CONFIG, '--work-dir', tmp_path, *cfg_options(**options))
    logs = sorted(tmp_path.glob('*/*rank*.log'))
    assert len(logs) == 2
    found = [
        re.findall(r'Token expansion: (epoch \d+ is in stage \d of 3, \d+ of 65)', log.read_text())
        for log in logs
    ]
    assert (
        found[0]
        == found[1]
        == [
            'epoch 0 is in stage 1 of 3, 33 of 65',
            'epoch 1 is in stage 2 of 3, 49 of 65',
            'epoch 3 is in stage 3 of 3, 65 of 65',
        ]
    )
