"""The hook: images, augmentation and batches at each stage, and resuming."""

import copy
import multiprocessing
import pickle
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import mmpretrain.models as hosts
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, MODELS, TRANSFORMS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets.transforms import RandAugment
from mmpretrain.structures import DataSample
from same_states import assert_same
from test_engine.test_resume import stop_before
from tiny_run import ROOT
from torch.utils.data import DataLoader

from mmvitlin.compat import stop_persistent_workers
from mmvitlin.curricula import EfficientTrainHook
from mmvitlin.curricula.efficient_train.batches import BatchSchedule
from mmvitlin.curricula.hook import curricula_of
from mmvitlin.curricula.model_parts import find_averages
from mmvitlin.curricula.plan import count_stages, plan_training
from mmvitlin.errors import ConfigError
from mmvitlin.models import LION, L2ViT
from mmvitlin.ops import low_frequency_crop
from mmvitlin.ops.token_expansion import step_sizes

pytestmark = pytest.mark.slow

CONFIG = ROOT / 'configs/quickstart/vit-micro_1xb64_digits.py'
EPOCHS = 5
SIZES = (20, 24, 32)
LEVELS = (1, 5, 9)
STAGE_OF = (0, 0, 1, 1, 2)  # of each epoch
TINY_ARCH = dict(embed_dims=8, num_layers=3, num_heads=2, feedforward_channels=16)
KEPT = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_states')
RAND_AUGMENT = dict(
    type='RandAugment',
    policies=[
        dict(type='AutoContrast'),
        dict(type='Rotate', magnitude_range=(0, 30)),
        dict(type='Brightness', magnitude_range=(0, 0.9)),
    ],
    num_policies=2,
    magnitude_level=9,
    magnitude_std=0.5,
)
CURRICULUM = dict(type='mmvitlin.EfficientTrainHook', input_size=SIZES, magnitude_level=LEVELS)
TOKEN_EXPANSION = dict(
    type='mmvitlin.TokenExpansionHook',
    expansion_step=(0, 1 / 3, 2 / 3),
    keep_rate=(0.6, 0.8, 1.0),
    initialization_keep_rate=0.3,
)


def config(work_dir, *hooks, validate=False, **options):
    """A run of seconds, of five epochs in three stages, with the average of the weights."""
    # Without formatting, for logs and checkpoints, which takes longer than an epoch.
    cfg = Config(Config.fromfile(CONFIG).to_dict(), format_python_code=False)
    cfg.custom_hooks = [dict(type='EMAHook', momentum=0.1), *(hooks or [CURRICULUM])]
    cfg.train_dataloader.dataset.pipeline.insert(-1, RAND_AUGMENT)
    tiny = {
        'model.backbone.arch': TINY_ARCH,
        'model.backbone.drop_path_rate': 0.1,
        'model.head.in_channels': 8,
        'model.train_cfg': dict(augments=[dict(type='Mixup', alpha=0.8)]),
        'train_dataloader.dataset.indices': 48,
        'train_dataloader.batch_size': 16,
        'val_dataloader.dataset.indices': 32,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'default_hooks.checkpoint.save_best': None,
        'default_hooks.logger.interval': 1,
        'train_cfg.max_epochs': EPOCHS,
    }
    if not validate:
        cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
        del tiny['val_dataloader.dataset.indices']
    cfg.merge_from_dict({**tiny, **{key.replace('__', '.'): v for key, v in options.items()}})
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{work_dir}{hooks}{options}'.replace('/', '_')[-200:]
    return cfg


class Recorder(Hook):
    """Hook that records the images of every training and validation step."""

    priority = 'LOWEST'

    def __init__(self):
        self.train, self.val, self.levels, self.rates = [], [], [], []
        self.lengths, self.val_lengths = [], []  # tokens in the last layer
        self.steps = []  # iterations after which weights had changed

    def before_train(self, runner):
        backbone = runner.model.backbone
        backbone.register_forward_pre_hook(self._see_images)
        backbone.layers[-1].register_forward_pre_hook(
            lambda _, inputs: self._see_tokens(backbone.training, inputs[0])
        )
        self.weights = runner.model.head.fc.weight.detach().clone()
        self.max_iters = runner.max_iters

    def _see_images(self, backbone, inputs):
        (images,) = inputs
        if type(images) is torch.Tensor:  # and no fake one, of planning
            seen = self.train if backbone.training else self.val
            seen.append((len(images), *images.shape[2:]))

    def _see_tokens(self, training, tokens):
        if type(tokens) is torch.Tensor:
            (self.lengths if training else self.val_lengths).append(tokens.shape[1])

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.rates.append(runner.optim_wrapper.get_lr()['lr'][0])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        weights = runner.model.head.fc.weight
        if not torch.equal(weights, self.weights):
            self.steps.append(runner.iter)
        self.weights = weights.detach().clone()

    def after_train_epoch(self, runner):
        augment = runner.train_dataloader.dataset.pipeline.transforms[-2]
        self.levels.append((augment.magnitude_level, augment.transforms[1].magnitude_level))


def run(cfg):
    runner, recorder = Runner.from_cfg(cfg), Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder


def logged(folder, prefix='EfficientTrain'):
    """Stages in the log, in its order."""
    log = max(Path(folder).glob('*/*.log'), key=lambda path: path.stat().st_mtime).read_text()
    return re.findall(rf'{prefix}: (epoch \d+ is in .*)', log)


def checkpoint(work_dir, epoch=EPOCHS):
    return torch.load(Path(work_dir) / f'epoch_{epoch}.pth', weights_only=True)


def classifier(**settings):
    cfg = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='VisionTransformer', arch=TINY_ARCH, img_size=32, patch_size=4),
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, num_classes=10),
        **settings,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg)


def batch(side=32, images=2):
    samples = [DataSample().set_gt_label(3) for _ in range(images)]
    return dict(inputs=torch.randint(0, 256, (images, 3, side, side)), data_samples=samples)


# Models


def test_training_sees_low_frequencies_and_evaluation_the_images():
    model, hook = classifier(), EfficientTrainHook(SIZES, LEVELS)
    hook.attach(model)
    data = batch()
    whole = model.data_preprocessor(data, True)['inputs']
    assert whole.shape[-1] == 32  # before any epoch is entered
    for epoch, side in {0: 20, 99: 20, 100: 24, 199: 24, 200: 32, 299: 32}.items():
        hook.set_epoch(epoch)
        for flag in ((True,), (), (False,)):
            inputs = model.data_preprocessor(data, *flag)['inputs']
            training = flag == (True,)
            expected = low_frequency_crop(whole, side) if training else whole
            torch.testing.assert_close(inputs, expected, atol=1e-5, rtol=1e-5)
        assert model.data_preprocessor(data, training=True)['inputs'].shape[-1] == side


def stages_of(hook, *length):
    stages = []
    for epoch in range(*length or [300]):
        hook.set_epoch(epoch, *length)
        stages.append(hook.stage)
    return stages


@pytest.mark.parametrize('step', [None, (0, 60, 120, 180, 240), (0, 0.2, 0.4, 0.6, 0.8)])
def test_the_stage_is_a_function_of_the_epoch(step):
    hook = EfficientTrainHook(stage_step=step)
    assert stages_of(hook) == [1 + epoch // 60 for epoch in range(300)]
    hook.set_epoch(59)
    assert hook.stage == 1


@pytest.mark.parametrize('length', [5, 7, 12, 90])
def test_stages_are_equal_in_a_training_of_any_length(length):
    stages = stages_of(EfficientTrainHook(), length)
    assert stages == [1 + 5 * epoch // length for epoch in range(length)]


def test_images_are_cropped_before_they_are_mixed():
    augments = dict(train_cfg=dict(augments=[dict(type='CutMix', alpha=1.0)]))
    model, plain = classifier(**augments), classifier(**augments)
    hook = EfficientTrainHook(SIZES, LEVELS)
    hook.attach(model)
    hook.set_epoch(0)
    data, outs = batch(images=4), []
    cropped = {**data, 'inputs': low_frequency_crop(data['inputs'].float(), 20)}
    for each, given in ((model, data), (plain, cropped), (plain, data)):
        torch.manual_seed(0)
        np.random.seed(0)
        outs.append(each.data_preprocessor(copy.deepcopy(given), True)['inputs'])
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(outs[0], low_frequency_crop(outs[2], 20), atol=1e-2)


def test_attaching_twice_crops_once_and_the_last_hook_decides():
    model = classifier()
    first, second = EfficientTrainHook(), EfficientTrainHook(SIZES, LEVELS)
    for hook in (first, first, second):
        hook.attach(model)
        hook.set_epoch(0)
    assert model.data_preprocessor(batch(), True)['inputs'].shape[-1] == 20
    second.set_epoch(299)
    assert model.data_preprocessor(batch(), True)['inputs'].shape[-1] == 32


def test_averages_that_are_attached_to_follow_the_stage_and_other_copies_do_not():
    model, hook = classifier(), EfficientTrainHook(SIZES, LEVELS)
    hook.attach(model)
    hook.set_epoch(0)
    copied, average = copy.deepcopy(model), ExponentialMovingAverage(model)
    hook.attach(average)
    hook.set_epoch(150)
    for each, side in ((model, 24), (average.module, 24), (copied, 20)):
        assert each.data_preprocessor(batch(), True)['inputs'].shape[-1] == side
        assert each.data_preprocessor(batch(), False)['inputs'].shape[-1] == 32


def test_the_model_still_pickles_and_its_weights_keep_their_names():
    model, plain, hook = classifier(), classifier(), EfficientTrainHook(SIZES, LEVELS)
    hook.attach(model)
    hook.set_epoch(0)
    copied = pickle.loads(pickle.dumps(model))
    assert copied.data_preprocessor(batch(), True)['inputs'].shape[-1] == 20
    assert model.state_dict().keys() == plain.state_dict().keys()


BACKBONES = {
    'ViT': lambda: hosts.VisionTransformer(TINY_ARCH, img_size=224, patch_size=16),
    'distilled': lambda: hosts.DistilledVisionTransformer(TINY_ARCH, img_size=224, patch_size=16),
    'LION': lambda: LION(TINY_ARCH, 224, 16, pos_emb=True),
    'L2ViT': lambda: L2ViT(dict(embed_dims=(8,) * 4, depths=(2,) * 4, num_heads=(2,) * 4)),
    'Swin': lambda: hosts.SwinTransformer(
        dict(embed_dims=8, depths=[2] * 4, num_heads=[2] * 4), pad_small_map=True
    ),
    'Swin with positions': lambda: hosts.SwinTransformer(
        dict(embed_dims=8, depths=[2] * 4, num_heads=[2] * 4),
        pad_small_map=True,
        use_abs_pos_embed=True,
    ),
    'ConvNeXt': lambda: hosts.ConvNeXt(dict(depths=[1] * 4, channels=[8] * 4)),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_backbones_train_at_every_size_of_the_paper(name):
    backbone, computes = BACKBONES[name](), []
    backbone.train()
    for side in (160, 192, 224):
        outs = backbone(torch.randn(1, 3, side, side))[-1]
        sum(out.pow(2).sum() for out in ([outs] if torch.is_tensor(outs) else outs)).backward()
        gradients = [n for n, p in backbone.named_parameters() if p.grad is None]
        assert gradients == []
        backbone.zero_grad()
        computes.append(count_stages(backbone, image_size=(side, side))[0].multiply_adds)
    assert computes == sorted(set(computes))


# Arguments


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(input_size=(160, 224)), r'input_size and magnitude_level need one .* got 2 and 5'),
        (dict(input_size=()), r'input_size needs integers of at least 1'),
        (dict(input_size=160), r'input_size must be a sequence of integers, got 160'),
        (dict(input_size=(0,) * 5), r'input_size needs integers of at least 1'),
        (dict(input_size=(160.0,) * 5), r'must be a sequence of integers, got 160\.0'),
        (dict(batch_size=(512, 256)), r'input_size and batch_size need one .* got 5 and 2'),
        (dict(batch_size=512), r'batch_size must be a sequence of integers, got 512'),
        (dict(magnitude_level=(1, 3, 5, 7, -9)), r'magnitude_level must be 0 or more'),
        (
            dict(magnitude_level=('1',) * 5),
            r"magnitude_level must be a sequence of numbers, got '1'",
        ),
        (dict(stage_step=(0, 60)), r'input_size and stage_step need one .* got 5 and 2'),
        (dict(stage_step=(0, 60, 50, 180, 240)), r'stage_step must increase from 0 or more'),
        (dict(stage_step=(1, 60, 120, 180, 240)), r'stage_step must begin at 0'),
        (
            dict(stage_step=(0, 0.2, 0.4, 0.6, 2)),
            r'stage_step takes epochs, which are whole numbers',
        ),
    ],
)
def test_arguments_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HOOKS.build(dict(type='mmvitlin.EfficientTrainHook', **settings))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(input_size=(20, 24, 40)), r'larger images than the train pipeline makes, 32 x'),
        (dict(magnitude_level=(1, 5, 11)), r'above the total_level of 10'),
        (dict(batch_size=(40, 16, 16)), r'batch_size=40 is no multiple of .* 16, which'),
        (dict(batch_size=(32, 16, 16)), r'accumulative_counts=1 .* no multiple of that'),
    ],
)
def test_a_run_that_cannot_work_ends_before_it_trains(tmp_path, options, message):
    runner = Runner.from_cfg(config(tmp_path, {**CURRICULUM, **options}))
    with pytest.raises(ConfigError, match=message):
        runner.train()
    assert runner.iter == 0


def test_batches_that_drop_all_images_are_refused(tmp_path):
    hook = dict(CURRICULUM, batch_size=(64, 16, 16))
    cfg = accumulating(tmp_path, hook, train_dataloader__drop_last=True)
    cfg.optim_wrapper.accumulative_counts = cfg.custom_hooks[0].interval = 4
    with pytest.raises(ConfigError, match=r'batches of 64 drop all images'):
        Runner.from_cfg(cfg).train()


def test_an_average_that_cannot_follow_larger_batches_is_refused(tmp_path):
    hook = dict(CURRICULUM, batch_size=(32, 16, 16))
    runner = Runner.from_cfg(config(tmp_path, hook, optim_wrapper__accumulative_counts=2))
    with pytest.raises(
        ConfigError, match=r'interval=1 of EMAHook.* give it the accumulative_co.*2'
    ):
        runner.train()


def test_a_pipeline_without_rand_augment_is_refused(tmp_path):
    cfg = config(tmp_path)
    del cfg.train_dataloader.dataset.pipeline[-2]
    with pytest.raises(ConfigError, match=r'has no RandAugment .* or give magnitude_level=None'):
        Runner.from_cfg(cfg).train()


def test_loops_by_iteration_are_refused(tmp_path):
    cfg = config(tmp_path, param_scheduler=None)
    cfg.train_cfg = dict(by_epoch=False, max_iters=4)
    with pytest.raises(ConfigError, match=r'goes by epoch, and train_cfg counts iterations'):
        Runner.from_cfg(cfg).train()


def test_a_backbone_that_a_small_size_is_too_small_for_is_refused_at_the_start(tmp_path):
    cfg = config(tmp_path, dict(CURRICULUM, input_size=(32, 32, 64)))
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[2, 2])
    cfg.model.backbone = dict(type='SwinTransformer', arch=arch, window_size=8, out_indices=[1])
    with pytest.raises(
        ConfigError, match=r'SwinTransformer does not run on images of 32 x 32 .*pad'
    ):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize('name', ['gt_instances', 'gt_sem_seg'])
def test_samples_that_lie_on_pixels_are_refused(name):
    model, hook = classifier(), EfficientTrainHook(SIZES, LEVELS)
    model.data_preprocessor = MODELS.build(dict(type='mmengine.BaseDataPreprocessor'))
    hook.attach(model)
    hook.set_epoch(0)
    data = dict(inputs=torch.zeros(1, 3, 32, 32), data_samples=[{name: 0}])
    with pytest.raises(ConfigError, match=f'samples have {name}'):
        model.data_preprocessor(data, True)


def test_a_model_without_a_data_preprocessor_is_refused():
    with pytest.raises(ConfigError, match=r'Linear has no data preprocessor'):
        EfficientTrainHook().attach(torch.nn.Linear(1, 1))


# Runs


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('undisturbed')
    return work_dir, run(config(work_dir))


def test_a_run_goes_through_the_stages_and_logs_them(undisturbed):
    work_dir, recorder = undisturbed
    assert recorder.train == [(16, SIZES[i], SIZES[i]) for i in STAGE_OF for _ in range(3)]
    assert recorder.levels == [(LEVELS[i], LEVELS[i]) for i in STAGE_OF]
    assert logged(work_dir) == [
        f'epoch {epoch} is in stage {stage} of 3, images of {side} x {side}, RandAugment at {level}'
        for epoch, stage, side, level in zip((0, 2, 4), (1, 2, 3), SIZES, LEVELS)
    ]
    log = next(work_dir.glob('*/*.log')).read_text()
    plan = re.search(r'33% of the training on images of 20 x 20 and 26 tokens \((0\.\d+) of', log)
    bound = re.search(r'in all (0\.\d+) of the compute, at most (1\.\d+)x faster', log)
    assert float(plan[1]) < float(bound[1]) < 1 < float(bound[2])


def assert_resumes(made_config, work_dir, expected, epoch, tmp_path):
    """From the checkpoint of an epoch of the undisturbed run, to the end of it."""
    path = str(work_dir / f'epoch_{epoch}.pth')
    last = dict(resume=True, load_from=path, default_hooks__checkpoint__interval=EPOCHS)
    recorder = run(made_config(tmp_path, **last))
    assert recorder.train == expected.train[-len(recorder.train) :]
    assert recorder.max_iters == expected.max_iters
    ours, theirs = checkpoint(tmp_path), checkpoint(work_dir)
    for key in KEPT:
        assert_same(ours[key], theirs[key], key)


BEFORE_AT_AFTER = pytest.mark.parametrize(
    'epoch', [1, 2, 3], ids=['before a boundary', 'at it', 'after it']
)


@BEFORE_AT_AFTER
def test_resume_continues_bit_for_bit(undisturbed, tmp_path, epoch):
    assert_resumes(config, *undisturbed, epoch, tmp_path)


def test_a_run_that_was_stopped_resumes_by_itself(undisturbed, tmp_path):
    work_dir, _ = undisturbed
    stop_before(2, config(tmp_path))
    run(config(tmp_path, resume=True))
    assert_same(checkpoint(tmp_path)['state_dict'], checkpoint(work_dir)['state_dict'])


@pytest.fixture(scope='module')
def other_stages(undisturbed, tmp_path_factory):
    """The last epoch, in the stage before."""
    work_dir = tmp_path_factory.mktemp('other')
    path = str(undisturbed[0] / f'epoch_{EPOCHS - 1}.pth')
    run(config(work_dir, dict(CURRICULUM, stage_step=(0, 2, EPOCHS)), resume=True, load_from=path))
    return work_dir


def test_weights_depend_on_the_stage(undisturbed, other_stages):
    """The tests of resuming would fail if it went to another stage."""
    ours, theirs = (checkpoint(each)['state_dict'] for each in (other_stages, undisturbed[0]))
    with pytest.raises(AssertionError):
        assert_same(ours, theirs)


def test_stages_that_training_never_reaches_are_logged(other_stages):
    log = next(other_stages.glob('*/*.log')).read_text()
    assert re.search(r'WARNING.*too short for stage 3 of 3, where stage_step is 5', log)


def test_a_magnitude_that_is_none_leaves_augmentation_alone(tmp_path):
    hook = dict(CURRICULUM, magnitude_level=None)
    recorder = run(config(tmp_path, hook, train_cfg__max_epochs=2, param_scheduler=None))
    assert recorder.levels == [(9, 9)] * 2
    assert recorder.train == [(16, 20, 20)] * 3 + [(16, 24, 24)] * 3


@TRANSFORMS.register_module()
class StampedRandAugment(RandAugment):
    """RandAugment that writes its magnitude into the sample, in any process."""

    def transform(self, results):
        results['level'] = self.transforms[1].magnitude_level
        return super().transform(results)


class Levels(Hook):
    """Keeps the magnitudes of the samples of every epoch, and the workers that made them."""

    def __init__(self):
        self.seen, self.workers = {}, {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        levels = self.seen.setdefault(runner.epoch, set())
        levels.update(sample.level for sample in data_batch['data_samples'])
        self.workers[runner.epoch] = [child.pid for child in multiprocessing.active_children()]


@pytest.mark.parametrize('persistent', [False, True], ids=['new each epoch', 'persistent'])
def test_workers_augment_at_the_magnitude_of_the_stage(tmp_path, persistent):
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset.pipeline[-2].type = 'StampedRandAugment'
    cfg.train_dataloader.dataset.pipeline[-1].meta_keys = ('level',)
    cfg.train_dataloader.update(num_workers=1, persistent_workers=persistent)
    runner, levels = Runner.from_cfg(cfg), Levels()
    runner.register_hook(levels)
    runner.train()
    assert levels.seen == {0: {1}, 1: {1}, 2: {5}, 3: {5}, 4: {9}}
    if persistent:
        assert levels.workers[0] == levels.workers[1] != levels.workers[2]
        assert all(len(workers) == 1 for workers in levels.workers.values())  # old ones are gone
        stop_persistent_workers(
            runner.train_loop.dataloader
        )  # collected with the runner they take 5 s


# Batches


BATCHES = dict(CURRICULUM, batch_size=(32, 16, 16))
ACCUMULATING = dict(optim_wrapper__accumulative_counts=2)


def accumulating(work_dir, hook, **options):
    """Train on 48 images, two batches of 16 per step; the average is updated per step."""
    cfg = config(work_dir, hook, **ACCUMULATING, **options)
    cfg.custom_hooks[0].interval = 2
    return cfg


@pytest.fixture(scope='module')
def larger_batches(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('batches')
    return work_dir, run(accumulating(work_dir, BATCHES))


def test_larger_batches_are_accumulated_less_often(larger_batches):
    _, recorder = larger_batches
    large = [(32, 20, 20), (16, 20, 20)]
    small = [(16, side, side) for side in (24, 24, 32) for _ in range(3)]
    assert recorder.train == 2 * large + small
    # Steps of 32 and of the last 16 images: two per epoch, for all batch sizes.
    assert recorder.steps == [0, 1, 2, 3, 5, 6, 8, 9, 11, 12]
    assert recorder.max_iters == 13


def test_schedules_are_where_the_configs_batches_would_have_brought_them(larger_batches, tmp_path):
    _, recorder = larger_batches
    rates = run(accumulating(tmp_path, CURRICULUM)).rates
    firsts = [0, 2, 4, 7, 10]
    assert [recorder.rates[first] for first in firsts] == rates[::3]
    assert recorder.rates[4:] == rates[6:]
    assert len(set(rates)) == 7  # eight optimizer steps, two of them at the highest rate


def test_the_average_goes_by_optimizer_steps(larger_batches):
    work_dir, _ = larger_batches
    steps = [int(checkpoint(work_dir, epoch)['ema_state_dict']['steps']) for epoch in (1, 5)]
    assert steps == [2, 13]
    first = checkpoint(work_dir, 1)  # two steps: the first copied, the second averaged
    name = 'head.fc.weight'
    averaged, weights = first['state_dict'][name], first['ema_state_dict'][f'module.{name}']
    assert not torch.equal(averaged, weights)


@BEFORE_AT_AFTER
def test_resume_with_other_batches_continues_bit_for_bit(larger_batches, tmp_path, epoch):
    assert_resumes(partial(accumulating, hook=BATCHES), *larger_batches, epoch, tmp_path)


def test_the_rest_of_an_epoch_ends_with_an_optimizer_step():
    """Resumed after 8 of 10 batches, 4 of which make a step."""
    weight = torch.nn.Parameter(torch.ones(()))
    batches = BatchSchedule.__new__(BatchSchedule)
    batches.size, batches.accumulative_counts, batches.averages = 16, 4, []
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.1), accumulative_counts=4)
    loop = SimpleNamespace(dataloader=DataLoader(range(160), 16), position=8)
    batches.enter(SimpleNamespace(train_loop=loop, optim_wrapper=wrapper), 16)
    steps = []
    for _ in range(2):
        before = weight.item()
        wrapper.update_params(weight * 1)
        steps.append(weight.item() != before)
    assert steps == [False, True]


@pytest.mark.parametrize(('length', 'larger'), [(12, 6), (13, 7), (13, 4), (5, 2), (1, 1)])
def test_every_iteration_steps_and_epochs_step_alike(length, larger):
    """`length` batches of the config an epoch, `larger` of the stage."""
    batches = BatchSchedule.__new__(BatchSchedule)
    batches.epoch_length = length
    scheduler = SimpleNamespace(by_epoch=False, steps=0)
    scheduler.step = lambda: setattr(scheduler, 'steps', scheduler.steps + 1)
    by_epoch = SimpleNamespace(by_epoch=True)
    loop = SimpleNamespace(dataloader=range(larger))
    for schedulers in ([scheduler, by_epoch], dict(a=[scheduler], b=[by_epoch])):
        runner = SimpleNamespace(train_loop=loop, param_schedulers=schedulers)
        scheduler.steps = 0
        for index in range(larger):
            before = scheduler.steps
            scheduler.step()  # MMEngine's
            batches.step_schedulers(runner, index)
            assert 1 <= scheduler.steps - before <= -(-length // larger)
        assert scheduler.steps == length


# With token expansion


def expanding(work_dir, **options):
    return config(work_dir, CURRICULUM, TOKEN_EXPANSION, validate=True, **options)


@pytest.fixture(scope='module')
def expanded(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('expanded')
    return work_dir, run(expanding(work_dir))


def test_tokens_follow_the_images(expanded):
    work_dir, recorder = expanded
    rates = (0.6, 0.8, 1.0), 0.3, 2
    expected = [
        1 + sum(step_sizes(patches, stage, *rates) or [patches])
        for patches, stage in [(25, 1), (25, 1), (36, 2), (36, 2), (64, 3)]
    ]
    assert recorder.lengths == [tokens for tokens in expected for _ in range(3)]
    found = logged(work_dir, 'Token expansion')
    assert [
        re.match(r'epoch (\d) is in stage (\d) of 3, (\d+) of', line).groups() for line in found
    ] == [
        ('0', '1', str(expected[0])),
        ('2', '2', str(expected[2])),
        ('4', '3', str(expected[4])),
    ]


def test_validation_sees_whole_images_and_all_tokens(expanded):
    _, recorder = expanded
    assert recorder.val == [(32, 32, 32)] * EPOCHS
    assert recorder.val_lengths == [65] * EPOCHS


def test_both_curricula_share_one_plan_and_steer_the_average(tmp_path, monkeypatch):
    planned = []

    def plan_once(*arguments, **settings):
        planned.append(settings)
        return plan_training(*arguments, **settings)

    monkeypatch.setattr('mmvitlin.curricula.hook.plan_training', plan_once)
    cfg = expanding(tmp_path, train_cfg__max_epochs=2, param_scheduler=None)
    runner, found = Runner.from_cfg(cfg), []

    class Followed(Hook):
        def after_train_epoch(self, runner):
            (average,) = find_averages(runner)
            crop = average.module.data_preprocessor.input_crop
            found.append((crop.stage, average.module.backbone.token_expansion.stage))

    runner.register_hook(Followed())
    runner.train()
    assert found == [(1, 1), (2, 2)]
    assert len(planned) == 1
    plans = [hook.plan for hook in curricula_of(runner)]
    assert len(plans) == 2 and plans[0] is plans[1]
    assert [len(costs) for costs in plans[0].costs.values()] == [4] * 3


def test_resume_with_token_expansion_continues_bit_for_bit(expanded, tmp_path):
    assert_resumes(expanding, *expanded, 2, tmp_path)


# Models around the model


def test_data_parallel_models_are_unwrapped(tmp_path):
    store = f'file://{tmp_path}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=0, world_size=1)
    try:
        model = MMDistributedDataParallel(classifier(), device_ids=None)
        hook = EfficientTrainHook(SIZES, LEVELS)
        hook.attach(model)
        hook.set_epoch(0)
        data = model.module.data_preprocessor(batch(), training=True)
        assert data['inputs'].shape[-1] == 20
    finally:
        torch.distributed.destroy_process_group()
