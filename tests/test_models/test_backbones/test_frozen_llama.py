"""Blocks of LLaMA in a model: never changed or copied, saved by choice, with a separate dtype."""

import copy

import pytest
import torch
from goldens import relative_error
from llama_files import HEADS, LAYOUTS, LLAMA, WIDTH, block_of, llama_weights
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.runner import load_state_dict as load_as_mmengine
from torch import nn

from mmvitlin.errors import CheckpointError
from mmvitlin.models.backbones.frozen_llama import FrozenLLaMA
from mmvitlin.ops.llama_block import llama_block, rms_norm

WEIGHTS = llama_weights()
X = torch.randn(2, 7, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def path(tmp_path):
    return str(LAYOUTS['consolidated.00.pth'](tmp_path, WEIGHTS))


def build(checkpoint='random', **options):
    return FrozenLLaMA(**LLAMA, checkpoint=checkpoint, **options)


def model_with(llama):
    """Tokens of 8 channels through LLaMA and back."""
    layers = dict(up=nn.Linear(8, WIDTH), llama=llama, down=nn.Linear(WIDTH, 8))
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model


def expected_of(x, layers=(3,)):
    x = x.double()
    for layer in layers:
        block = {name: value.double() for name, value in block_of(WEIGHTS, layer).items()}
        x = llama_block(x, block, HEADS)
    return rms_norm(x)


def blocks_of(llama):
    llama.prepare(required=True)
    return llama.state_dict() or llama._weights.blocks[0]


# Outputs


@pytest.mark.parametrize(('num_blocks', 'layers'), [(1, [3]), (3, [1, 2, 3])])
def test_the_last_blocks_of_the_file_are_applied_in_order(num_blocks, layers, path):
    out = build(path, num_blocks=num_blocks)(X)
    assert relative_error(out.double(), expected_of(X, layers)) < 1e-5


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32', 'float64'])
@pytest.mark.parametrize('outside', [torch.float16, torch.float32, torch.float64])
def test_its_dtype_is_its_own_and_that_of_the_tokens_comes_back(dtype, outside, path):
    llama = build(path, dtype=dtype).to(outside)
    out = llama(X.to(outside))
    assert out.dtype == outside
    assert {w.dtype for w in blocks_of(llama).values()} == {getattr(torch, dtype)}
    eps = max(torch.finfo(getattr(torch, dtype)).eps, torch.finfo(outside).eps, 1e-6)
    assert relative_error(out.double(), expected_of(X)) < 8 * eps


def test_autocast_does_not_change_its_dtype(path):
    llama = build(path)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(llama(X), llama(X))
        with_autocast = llama(X)
    assert torch.equal(with_autocast, llama(X))


def test_the_number_of_weights_is_llamas():
    assert FrozenLLaMA().num_weights == 202_383_360  # 202.4M, and none of them is read
    assert FrozenLLaMA(num_blocks=2).num_weights == 2 * 202_383_360
    llama = build()
    assert llama.num_weights == sum(w.numel() for w in blocks_of(llama).values())


# Frozen, and out of everybody's way


def test_no_parameter_no_buffer_no_gradient(path):
    model = model_with(build(path))
    model.llama.prepare()
    assert not list(model.llama.parameters())
    assert not list(model.llama.buffers())
    x = torch.randn(2, 5, 8, requires_grad=True)
    model(x).square().sum().backward()
    assert x.grad.abs().min() > 0
    assert model.up.weight.grad.abs().max() > 0
    for weight in blocks_of(model.llama).values():
        assert not weight.requires_grad
        assert weight.grad is None


def test_the_backward_pass_calculates_no_gradient_of_a_weight(path):
    """Seven products with weights forward, seven with their transposes backward, and no more."""
    llama, x = build(path), X.clone().requires_grad_()
    llama.prepare()

    def products(action):
        cpu = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=cpu) as profile:
            result = action()
        count = sum(e.count for e in profile.key_averages() if e.key in ('aten::mm', 'aten::addmm'))
        return count, result

    forward, out = products(lambda: llama(x))
    backward, _ = products(lambda: out.sum().backward())
    assert (forward, backward) == (7, 7)


def test_training_leaves_every_bit_as_it_is(path):
    model = model_with(build(path))
    model.llama.prepare()
    before = {name: w.clone() for name, w in blocks_of(model.llama).items()}
    settings = dict(type='AdamW', lr=0.1, weight_decay=0.5)
    for paramwise in (None, dict(norm_decay_mult=0.0)):
        optim = build_optim_wrapper(model, dict(optimizer=settings, paramwise_cfg=paramwise))
        held = sum(len(group['params']) for group in optim.optimizer.param_groups)
        assert held == 4  # two linear layers
        average = ExponentialMovingAverage(model, momentum=0.1, update_buffers=True)
        for _ in range(3):
            optim.update_params(model(torch.randn(2, 5, 8)).square().mean())
            average.update_parameters(model)
    for name, w in blocks_of(model.llama).items():
        assert torch.equal(w, before[name]), name


@pytest.mark.parametrize('save', [False, True])
@pytest.mark.parametrize('when', ['before', 'after'])
def test_an_average_shares_the_weights_and_leaves_them_out(when, save, path):
    """MMEngine's hook copies the model before its weights are there."""
    model = model_with(build(path, save=save))
    if when == 'after':
        model.llama.prepare()
    average = ExponentialMovingAverage(model, update_buffers=True)
    model.llama.prepare()
    assert average.module.llama._weights is model.llama._weights
    assert not any('llama' in name for name in average.state_dict())
    assert not any('llama' in name for name in average.avg_parameters)
    x = torch.randn(2, 5, 8)
    assert torch.equal(average(x), model(x))


def test_casting_and_moving_the_model_leaves_the_weights_where_they_are(path):
    model = model_with(build(path, dtype='bfloat16'))
    model.llama.prepare()
    before = blocks_of(model.llama)
    model.half().double()
    model.to_empty(device='cpu')
    assert blocks_of(model.llama) is before


def test_the_weights_go_where_the_tokens_are(path):
    llama = build(path)
    llama.prepare()
    there = llama._weights.on(torch.device('meta'))  # for want of another device
    assert {w.device.type for w in there[0].values()} == {'meta'}
    assert llama._weights.on(torch.device('meta')) is there


def test_weights_that_came_under_inference_mode_can_train(path):
    llama = build(path)
    with torch.inference_mode():
        llama(X)
    x = X.clone().requires_grad_()
    llama(x).sum().backward()
    assert x.grad.abs().max() > 0


# Checkpoints


def test_a_checkpoint_holds_the_weights_by_choice(path):
    without, having = model_with(build(path)), model_with(build(path, save=True))
    for model in (without, having):
        model.llama.prepare()
    names = {f'llama.layers.0.{part}' for part in block_of(WEIGHTS, 3)}
    assert {name for name in having.state_dict() if 'llama' in name} == names
    assert not any('llama' in name for name in without.state_dict())


LOADERS = {
    'torch': lambda model, weights: model.load_state_dict(weights, strict=True),
    'mmengine': lambda model, weights: load_as_mmengine(model, weights, strict=True),
}


@pytest.mark.parametrize('loader', LOADERS)
@pytest.mark.parametrize('save', [False, True])
def test_one_with_the_weights_loads_alone(save, loader, path):
    source, model = model_with(build(path, save=True)), model_with(build(None, save=save))
    source.llama.prepare()
    LOADERS[loader](model, source.state_dict())
    x = torch.randn(2, 5, 8)
    assert torch.equal(model(x), source(x))


@pytest.mark.parametrize('loader', LOADERS)
@pytest.mark.parametrize('save', [False, True])
def test_one_without_loads_where_the_file_is_named(save, loader, path):
    source, model = model_with(build(path)), model_with(build(path, save=save))
    LOADERS[loader](model, source.state_dict())
    x = torch.randn(2, 5, 8)
    assert torch.equal(model(x), source(x))


def test_the_weights_of_a_checkpoint_win_over_those_of_the_file(path):
    source, model = model_with(build('random', save=True)), model_with(build(path))
    for each in (source, model):
        each.llama.prepare()
    twin = copy.deepcopy(model)
    own = blocks_of(model.llama)
    model.load_state_dict(source.state_dict())
    x = torch.randn(2, 5, 8)
    assert torch.equal(model(x), source(x))
    assert blocks_of(twin.llama) is own, 'a copy was given other weights'
    twin.load_state_dict(twin.state_dict())
    assert blocks_of(twin.llama) is own


def test_a_named_file_that_is_not_there_does_not_hinder_a_checkpoint_with_the_weights(path):
    source, model = model_with(build(path, save=True)), model_with(build('/nowhere.pth'))
    source.llama.prepare()
    model.load_state_dict(source.state_dict())
    assert torch.equal(model(torch.ones(1, 2, 8)), source(torch.ones(1, 2, 8)))


def test_weights_of_another_dtype_are_converted(path):
    source, model = build(path, save=True), build(None, dtype='bfloat16')
    source.prepare()
    model.load_state_dict(source.state_dict())
    assert {w.dtype for w in blocks_of(model).values()} == {torch.bfloat16}


# Errors


def test_no_weights_is_an_error_that_says_how_to_get_them():
    model = build(None)
    model.prepare()  # a checkpoint that is resumed may still bring them
    message = r"no weights.*llama=dict\(checkpoint=PATH\).*checkpoint='random'.*come from Meta"
    with pytest.raises(CheckpointError, match=message) as error:
        model(X)
    assert '\n' not in str(error.value)
    with pytest.raises(CheckpointError, match='the checkpoint was saved without it'):
        model.load_state_dict({})


def test_a_file_that_is_not_there_is_an_error_from_the_start():
    with pytest.raises(CheckpointError, match=r'there is no file of LLaMA at /nowhere\.pth'):
        build('/nowhere.pth').prepare()


@pytest.mark.parametrize('loader', LOADERS)
def test_a_part_of_the_weights_a_strange_one_and_another_shape_are_named(loader, path):
    source = build(path, save=True)
    source.prepare()
    good = source.state_dict()
    part, strange, reshaped = dict(good), dict(good), dict(good)
    del part['layers.0.ffn_norm.weight']
    strange['layers.1.ffn_norm.weight'] = torch.ones(WIDTH)
    reshaped['layers.0.ffn_norm.weight'] = torch.ones(3)
    for weights, message in (
        (part, r'layers\.0\.ffn_norm\.weight'),
        (strange, r'layers\.1\.ffn_norm\.weight'),
        (reshaped, r'layers\.0\.ffn_norm\.weight: \(3,\) in the checkpoint, \(64,\) here'),
    ):
        model = nn.ModuleDict({'llama': build(None)})
        weights = {f'llama.{name}': value for name, value in weights.items()}
        with pytest.raises(RuntimeError, match=message):
            LOADERS[loader](model, weights)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_blocks=0), 'num_blocks of llama must be an integer of at least 1, got 0'),
        (dict(embed_dims=30), 'multiple of its num_heads, got 30 with 4 heads'),
        (dict(dtype='int8'), r"dtype of llama must be one of \['float16', .*'\], got 'int8'"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FrozenLLaMA(**LLAMA | options)


def test_what_it_is_can_be_read():
    assert repr(build()) == "FrozenLLaMA(1 x 64, checkpoint='random', float32)"
