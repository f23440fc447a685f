"""A backbone loads a pretrained checkpoint as a whole, with a report, or raises an error."""

import logging
import re

import pytest
import tiny_models
import torch
from goldens import load_golden
from mmengine.model import BaseModule, PretrainedInit
from mmpretrain.models import SwinTransformer
from test_models.test_backbones.cases import L2VIT
from torch import nn

from mmvitlin.checkpoints import pretrained
from mmvitlin.checkpoints.converters.l2vit import convert_l2vit
from mmvitlin.errors import CheckpointError


@pytest.fixture
def log(monkeypatch):
    """Return the log records while weights are loaded: (level, message)."""
    entries = []
    monkeypatch.setattr(
        pretrained, 'print_log', lambda message, _, level: entries.append((level, message))
    )
    return entries


@pytest.fixture
def save(tmp_path):
    """Save weights as a checkpoint; return the `init_cfg` that names it."""

    def save_weights(weights, **settings):
        torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
        return dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'), **settings)

    return save_weights


def classifier_weights():
    return {f'backbone.{k}': v for k, v in L2VIT.build().state_dict().items()} | {
        'head.fc.weight': torch.zeros(3, 32)
    }


def start(init_cfg, **settings):
    model = L2VIT.backbone(**(L2VIT.kwargs | settings), init_cfg=init_cfg)
    model.init_weights()
    return model


# What is loaded


def test_a_mask_rcnn_starts_with_all_weights_of_a_converted_classifier(log, save):
    golden = load_golden('l2vit_64x64')
    weights = convert_l2vit(golden.weights)
    arch = dict(embed_dims=golden.kwargs['dims'])
    arch |= {key: golden.kwargs[key] for key in ('depths', 'num_heads')}
    model = tiny_models.build('mmdet', arch=arch, init_cfg=save(weights, prefix='backbone.'))
    model.init_weights()

    ((level, message),) = log
    count = sum(name.startswith('backbone.') for name in weights)
    assert f'L2ViT: {count} of {count} tensors (100%) loaded from ' in message
    new = [f'norm{stage}.{kind}' for stage in range(3) for kind in ('bias', 'weight')]
    assert message.endswith(f'new, at their initial values: {", ".join(new)}')
    assert level == logging.INFO
    state = model.backbone.state_dict()
    for name in state.keys() - set(new):
        torch.testing.assert_close(state[name], weights[f'backbone.{name}'].to(state[name].dtype))
    assert all(torch.all(state[name] == ('weight' in name)) for name in new)


@pytest.mark.parametrize('scope', tiny_models.MODELS_OF)
def test_every_host_starts_from_a_classifier(scope, log, save):
    weights = classifier_weights()
    model = tiny_models.build(scope, init_cfg=save(weights, prefix='backbone'))
    model.init_weights()
    assert len(log) == 1
    assert '(100%)' in log[0][1]
    for name, value in model.backbone.named_parameters():
        assert re.match('norm[012]', name) or torch.equal(value, weights[f'backbone.{name}'])


def test_a_dense_checkpoint_gives_its_norms_too(log, save):
    source = L2VIT.build(out_indices=(0, 1, 2, 3))
    model = start(save(source.state_dict()), out_indices=(0, 1, 2, 3))
    assert 'new' not in log[0][1]
    assert torch.equal(model.norm0.bias, source.norm0.bias)


@pytest.mark.parametrize('kind', ['state_dict', 'bare', 'data parallel', 'half'])
def test_a_file_of_the_backbone_alone_needs_no_prefix(kind, log, tmp_path):
    weights = L2VIT.build().state_dict()
    content = {
        'state_dict': dict(state_dict=weights, meta={}),
        'bare': weights,
        'data parallel': {f'module.{name}': value for name, value in weights.items()},
        'half': {n: v.half() if v.is_floating_point() else v for n, v in weights.items()},
    }[kind]
    torch.save(content, tmp_path / 'backbone.pth')
    model = start(dict(type=PretrainedInit, checkpoint=str(tmp_path / 'backbone.pth')))
    assert '(100%)' in log[0][1]
    for name, value in model.state_dict().items():
        assert value.dtype == weights[name].dtype
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)


def test_synchronised_batch_norms_are_loaded(log, save):
    model = L2VIT.backbone(**L2VIT.kwargs, init_cfg=save(L2VIT.build().state_dict()))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.init_weights()
    assert '(100%)' in log[0][1]
    assert model.downsamples[0].bn1.running_var.std() > 0


# What is reported


def test_all_that_differs_is_listed(log, save):
    weights = classifier_weights()
    weights['backbone.extra'] = torch.zeros(1)
    weights['backbone.norm3.bias'] = torch.zeros(5)
    lost = ['stages.0.0.mlp.fc1.bias', 'stages.0.1.attn.temperature']
    for name in lost:
        del weights[f'backbone.{name}']
    start(save(weights, prefix='backbone.'), out_indices=(1, 3))
    ((level, message),) = log
    assert level == logging.WARNING
    total = len(L2VIT.build().state_dict())
    lines = message.splitlines()
    assert f'{total - 3} of {total} tensors ({100 * (total - 3) // total}%)' in lines[0]
    assert [line.strip() for line in lines[1:]] == [
        'new, at their initial values: norm1.bias, norm1.weight',
        'unexpected: extra',
        'mismatched: norm3.bias (5,) for (32,)',
        f'missing: {", ".join(lost)}',
    ]


def test_mmengine_records_where_weights_come_from(log, save):
    class Model(BaseModule):
        def __init__(self):
            super().__init__()
            init_cfg = save(L2VIT.build().state_dict())
            self.backbone = L2VIT.backbone(**L2VIT.kwargs, init_cfg=init_cfg)

        def _dump_init_info(self):
            weight = self.backbone.stages[0][0].mlp.fc1.weight
            self.record = self._params_init_info[weight]['init_info']

    model = Model()
    model.init_weights()
    assert re.match(r'loaded from .*weights\.pth', model.record)


# When


def test_weights_are_loaded_once(log, save):
    model = start(save(L2VIT.build().state_dict()))
    with torch.no_grad():
        model.norm3.bias.fill_(7)
    model.init_weights()
    assert len(log) == 1
    assert torch.all(model.norm3.bias == 7)


def test_weights_are_loaded_after_all_other_initialisation(log, save):
    weights = L2VIT.build().state_dict()
    constant = dict(type='Constant', layer='LayerNorm', val=0.5)
    init_cfg = [save(weights), constant]
    model = start(init_cfg)
    assert torch.equal(model.norm3.weight, weights['norm3.weight'])
    assert model.init_cfg[1:] == init_cfg  # as given, after the backbone's own


# What is refused


def swin():
    """A Swin of mmpretrain's: its last norm has the name and the shape of the L2ViT's."""
    arch = dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    return SwinTransformer(arch=arch).state_dict()


REFUSED = {
    'another model': (
        lambda: {f'backbone.{name}': value for name, value in swin().items()},
        dict(prefix='backbone.'),
        r'weights\.pth is not a checkpoint of this L2ViT: it matches 2 of \d+ tensors \(.* '
        r'unexpected, such as patch_embed.*Take one of the same model and arch',
    ),
    'a classifier without prefix': (
        classifier_weights,
        {},
        r"matches 0 of .* start with 'backbone\.': give prefix='backbone\.'",
    ),
    'a wrong prefix': (
        classifier_weights,
        dict(prefix='encoder.'),
        r"has no weights under prefix='encoder\.'; its names start with backbone\., head\.",
    ),
    'another width': (
        lambda: L2VIT.build(
            arch=L2VIT.kwargs['arch'] | dict(embed_dims=(16, 32, 48, 64))
        ).state_dict(),
        {},
        r'mismatched, such as downsamples',
    ),
    'no weights': (dict, {}, 'a state dict was expected'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_checkpoint_of_something_else_is_an_error(case, save):
    weights, settings, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message):
        start(save(weights(), **settings))


def test_an_original_checkpoint_is_to_be_converted_first(tmp_path):
    """More than half of its names are ours; the other weights would keep random values."""
    golden = load_golden('l2vit_64x64')
    torch.save(dict(model=golden.weights), tmp_path / 'original.pth')
    arch = dict(embed_dims=golden.kwargs['dims'])
    arch |= {key: golden.kwargs[key] for key in ('depths', 'num_heads')}
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'original.pth'))
    with pytest.raises(CheckpointError, match=r'convert an original one by tools/convert') as error:
        start(init_cfg, arch=arch)
    found = re.search(r'matches (\d+) of (\d+) tensors', str(error.value))
    matching, total = map(int, found.groups())
    assert 0.5 < matching / total < 0.6


def test_a_swin_matches_a_norm_so_that_nothing_matched_would_not_catch_it():
    ours = L2VIT.build().state_dict()
    both = {
        name for name, value in swin().items() if name in ours and ours[name].shape == value.shape
    }
    assert both == {'norm3.weight', 'norm3.bias'}


def test_a_misspelt_key_is_a_type_error(save):
    with pytest.raises(TypeError, match='prefx'):
        start(save(L2VIT.build().state_dict(), prefx='backbone.'))
