"""The learning rate falls towards the backbone's input, in every host, and nowhere else."""

import re

import pytest
import tiny_models
import torch
from config_reading import load
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmvitlin.engine.cost import build_on_meta
from mmvitlin.models import ViTLLaMA

RATE, LR, DECAY = 0.5, 1e-3, 0.05
PARAMWISE = dict(
    layer_decay_rate=RATE, norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0
)
# The tiny L2ViT has blocks 2 / 1 / 2 / 1: layer 0 is the stem, 1 to 6 the blocks, 7 what follows.
LAYERS = {
    'downsamples.0.conv1.weight': 0,
    'downsamples.0.norm.weight': 0,
    'stages.0.0.attn.qkv.weight': 1,
    'stages.0.1.attn.temperature': 2,
    'downsamples.1.conv.weight': 2,
    'stages.1.0.mlp.fc1.bias': 3,
    'downsamples.2.conv.weight': 3,
    'stages.2.0.cpe1.conv.weight': 4,
    'stages.2.1.concentration.bn.weight': 5,
    'downsamples.3.norm.bias': 5,
    'stages.3.0.norm2.weight': 6,
    'norm3.weight': 7,
}


def optim_wrapper(model, paramwise_cfg=PARAMWISE, constructor='mmvitlin.', **optimizer):
    cfg = dict(
        optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY) | optimizer,
        constructor=f'{constructor}LayerDecayOptimWrapperConstructor',
        paramwise_cfg=paramwise_cfg,
    )
    return build_optim_wrapper(model, cfg)


def settings(model, wrapper):
    """Name of each parameter -> (lr, weight decay)."""
    found = {
        parameter: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    assert len(found) == sum(len(group['params']) for group in wrapper.optimizer.param_groups)
    return {name: found[p] for name, p in model.named_parameters() if p in found}


@pytest.mark.parametrize('scope', tiny_models.MODELS_OF)
def test_rates_fall_in_the_backbone_and_stay_full_behind_it(scope):
    model = tiny_models.build(scope)
    found = settings(model, optim_wrapper(model))
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, layer in LAYERS.items():
        assert found[f'backbone.{name}'][0] == pytest.approx(LR * RATE ** (7 - layer)), name
    outside = {lr for name, (lr, _) in found.items() if not name.startswith('backbone.')}
    assert outside == {LR}


@pytest.mark.parametrize('scope', tiny_models.MODELS_OF)
def test_biases_norms_and_flat_parameters_do_not_decay(scope):
    model = tiny_models.build(scope)
    for name, (_, decay) in settings(model, optim_wrapper(model)).items():
        flat = model.get_parameter(name).ndim == 1  # all norms and biases are
        assert decay == (0 if flat else DECAY), name


def test_temperatures_decay_unless_spared_by_name():
    model = tiny_models.build('mmpretrain')
    name = 'backbone.stages.0.1.attn.temperature'
    assert settings(model, optim_wrapper(model))[name][1] == DECAY
    keys = dict(custom_keys=dict(temperature=dict(decay_mult=0.0)))
    assert settings(model, optim_wrapper(model, PARAMWISE | keys))[name][1] == 0


def test_the_backbone_names_what_does_not_decay_and_custom_keys_prevail():
    model = nn.Module()
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8)
    model.backbone = ViTLLaMA(arch, img_size=32, llama=dict(checkpoint='random'))
    found = settings(model, optim_wrapper(model))
    assert {name for name, p in model.named_parameters() if p.ndim > 1 and not found[name][1]} == {
        'backbone.cls_token',
        'backbone.pos_embed.weight',
    }
    keys = dict(custom_keys=dict(pos_embed=dict(decay_mult=0.5)))
    found = settings(model, optim_wrapper(model, PARAMWISE | keys))
    assert found['backbone.pos_embed.weight'][1] == 0.5 * DECAY
    assert found['backbone.cls_token'][1] == 0


def test_custom_keys_multiply_the_rate_of_the_layer():
    model = tiny_models.build('mmpretrain')
    keys = {'stages.2': dict(lr_mult=0.1, decay_mult=0.5), 'head': dict(lr_mult=10.0)}
    found = settings(model, optim_wrapper(model, PARAMWISE | dict(custom_keys=keys)))
    lr, decay = found['backbone.stages.2.0.attn.qkv.weight']
    assert (lr, decay) == (pytest.approx(0.1 * LR * RATE**3), 0.5 * DECAY)
    assert found['head.fc.weight'] == (10 * LR, DECAY)
    assert found['backbone.stages.0.0.attn.qkv.weight'][1] == DECAY


def test_a_rate_of_one_and_mults_left_out_change_nothing():
    model = tiny_models.build('mmpretrain')
    wrapper = optim_wrapper(model, dict(layer_decay_rate=1))
    assert len(wrapper.optimizer.param_groups) == 1
    assert set(settings(model, wrapper).values()) == {(LR, DECAY)}


def test_equal_parameters_share_a_group():
    groups = optim_wrapper(tiny_models.build('mmpretrain')).optimizer.param_groups
    assert len(groups) == 8 * 2  # layers, with and without decay


def test_frozen_parameters_stay_out():
    model = tiny_models.build('mmpretrain', frozen_stages=1)
    found = settings(model, optim_wrapper(model))
    assert not [name for name in found if re.match(r'backbone\.(downsamples\.0|stages\.0)', name)]
    assert 'backbone.downsamples.1.conv.weight' in found


def test_the_bare_name_builds_too():
    import mmvitlin  # noqa: F401

    assert optim_wrapper(tiny_models.build('mmpretrain'), constructor='').param_groups


def test_synchronised_batch_norms_are_norms():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(tiny_models.build('mmpretrain'))
    only_norms = dict(layer_decay_rate=RATE, norm_decay_mult=0.0)
    found = settings(model, optim_wrapper(model, only_norms))
    assert type(model.backbone.downsamples[0].bn1) is nn.SyncBatchNorm
    assert found['backbone.downsamples.0.bn1.bias'] == (pytest.approx(LR * RATE**7), 0)
    assert found['backbone.downsamples.0.conv1.bias'][1] == DECAY


@pytest.fixture
def one_process_group():
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_a_model_wrapped_for_data_parallel_training_gets_the_same(one_process_group):
    model = tiny_models.build('mmpretrain')
    wrapped = MMDistributedDataParallel(model)
    assert settings(model, optim_wrapper(wrapped)) == settings(model, optim_wrapper(model))


def test_a_step_moves_layers_by_their_rates():
    """AdamW's first step is lr in every element with a gradient."""
    model = tiny_models.build('mmpretrain')
    wrapper = optim_wrapper(model, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapper.update_params(sum(p.sum() for p in model.parameters()))
    for name, layer in LAYERS.items():
        moved = before[f'backbone.{name}'] - model.get_parameter(f'backbone.{name}')
        expected = torch.full_like(moved, LR * RATE ** (7 - layer))
        torch.testing.assert_close(moved, expected, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize(
    ('paramwise_cfg', 'optimizer', 'message'),
    [
        ({}, {}, r'must give layer_decay_rate, a number in \(0, 1\].*got None'),
        (dict(layer_decay_rate=0), {}, 'got 0'),
        (dict(layer_decay_rate=1.5), {}, r'got 1\.5'),
        (dict(layer_decay_rate='0.8'), {}, "got '0.8'"),
        (dict(decay_rate=0.8), {}, r"no option \['decay_rate'\]; choose from \['layer_decay_rate'"),
        (PARAMWISE, dict(lr=None), 'the optimizer must give its lr'),
    ],
)
def test_bad_settings_are_refused(paramwise_cfg, optimizer, message):
    with pytest.raises(ValueError, match=message):
        optim_wrapper(tiny_models.build('mmpretrain'), paramwise_cfg, **optimizer)


@pytest.mark.parametrize('backbone', [None, nn.Linear(2, 2)])
def test_a_backbone_that_tells_no_depths_is_refused(backbone):
    model = nn.Module()
    model.backbone = backbone
    model.head = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r'needs model\.backbone\.get_layer_depth'):
        optim_wrapper(model)


def test_it_knows_mmpretrains_vision_transformer():
    cfg = load('configs/lion/mask-rcnn_lion-d-natural-small_sfp_1x_coco.py')
    cfg.model.backbone = dict(
        type='mmpretrain.VisionTransformer', arch='deit-small', out_type='featmap'
    )
    groups = build_optim_wrapper(build_on_meta(cfg), cfg.optim_wrapper).optimizer.param_groups
    rates = sorted({round(group['lr'], 12) for group in groups})
    assert rates == pytest.approx([1e-4 * 0.7**depth for depth in range(13, -1, -1)])
