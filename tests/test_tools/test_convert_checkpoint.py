"""tools/convert_checkpoint.py takes original checkpoints, and nothing else."""

import argparse
import re

import pytest
import torch
from goldens import load_golden, relative_error

from mmvitlin.models import L2ViT

SYSTEM = 'l2vit'
GOLDEN = load_golden('l2vit_64x64')


def classifier():
    """The classifier of the golden case, in float64."""
    from mmpretrain.models import ImageClassifier

    dims = GOLDEN.kwargs['dims']
    arch = dict(embed_dims=dims) | {k: GOLDEN.kwargs[k] for k in ('depths', 'num_heads')}
    return ImageClassifier(
        backbone=dict(type='mmvitlin.L2ViT', arch=arch),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=GOLDEN.kwargs['num_classes'], in_channels=dims[-1]
        ),
    ).double()


def error_of(convert, *arguments, **files):
    with pytest.raises(SystemExit) as end:
        convert(*arguments, **files)
    return end.value.code


# What is converted


SOURCES = {
    'bare': lambda weights: weights,
    'model, with a command line': lambda weights: {
        'model': weights,
        'epoch': 299,
        'args': argparse.Namespace(model='l2vit', lr=4e-3),
    },
    'state_dict of a wrapper': lambda weights: {
        'state_dict': {f'module.{name}': value for name, value in weights.items()}
    },
    'model_ema alone': lambda weights: {'model_ema': weights},
}


@pytest.mark.parametrize('source', SOURCES)
def test_a_converted_checkpoint_gives_the_originals_logits(source, convert, capsys):
    converted = convert(SOURCES[source](GOLDEN.weights))
    model = classifier()
    model.load_state_dict(converted['state_dict'], strict=True)
    model.eval()
    with torch.no_grad():
        logits = model(GOLDEN.images, mode='tensor')
    assert relative_error(logits, GOLDEN.outputs['logits']) <= 1e-5
    assert converted['meta']['arch'] == {
        'embed_dims': tuple(GOLDEN.kwargs['dims']),
        'depths': tuple(GOLDEN.kwargs['depths']),
        'num_heads': tuple(GOLDEN.kwargs['num_heads']),
    }
    assert converted['meta']['num_classes'] == GOLDEN.kwargs['num_classes']
    assert f'{len(GOLDEN.weights)} tensors of l2vit' in capsys.readouterr().out


def test_the_moving_average_is_taken_on_demand(convert):
    content = {
        'model': GOLDEN.weights,
        'model_ema': {name: value + 1 for name, value in GOLDEN.weights.items()},
    }
    bias = GOLDEN.weights['head.bias']
    assert torch.equal(convert(content)['state_dict']['head.fc.bias'], bias)
    averaged = convert(content, '--ema', '--force')
    assert torch.equal(averaged['state_dict']['head.fc.bias'], bias + 1)
    assert "'model_ema'" in averaged['meta']['source']


def test_tensors_keep_their_dtype(convert):
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in GOLDEN.weights.items()
    }
    state_dict = convert(weights)['state_dict']
    assert state_dict['head.fc.weight'].dtype == torch.float16
    assert state_dict['backbone.downsamples.0.bn1.num_batches_tracked'].dtype == torch.int64
    assert sorted(str(v.dtype) for v in state_dict.values()) == sorted(
        str(v.dtype) for v in weights.values()
    )


def test_a_checkpoint_of_our_own_training_is_stripped(convert):
    ours = classifier().state_dict()
    converted = convert({'state_dict': ours, 'optimizer': {'state': {}}, 'meta': {'epoch': 1}})
    assert converted.keys() == {'meta', 'state_dict'}
    assert converted['state_dict'].keys() == ours.keys()


LION_GOLDENS = ('lion_lit_s', 'lion_decay_normal_pos', 'lion_decay_s', 'lion_selective_s_pos_cls')


@pytest.mark.parametrize('name', LION_GOLDENS)
def test_a_converted_lion_keeps_every_tensor(name, convert, capsys):
    golden = load_golden(name)
    converted = convert({'model': golden.weights}, system='lion')
    state_dict, heads = converted['state_dict'], 1 if 'lit' in name else 3
    assert converted['meta']['arch'] == dict(
        embed_dims=48, num_layers=3, num_heads=heads, feedforward_channels=192
    )
    assert converted['meta']['num_classes'] == 10
    assert len(state_dict) == len(golden.weights)
    assert torch.equal(state_dict['backbone.norm2.weight'], golden.weights['norm.weight'])
    assert f'{len(golden.weights)} tensors of lion' in capsys.readouterr().out


def test_an_original_without_its_second_decay_is_refused(convert):
    weights = dict(load_golden('lion_decay_s').weights)
    del weights['blocks.1.attn.a2_i']
    message = error_of(convert, weights, system='lion')
    assert '1 missing, such as backbone.layers.1.attn.gates.1.logits' in message


@pytest.mark.parametrize(
    ('name', 'shape'),
    [('patch_embed.proj.weight', (48, 768)), ('pos_embed', (17,)), ('blocks.0.attn.a_i.bias', ())],
)
def test_a_weight_of_other_dimensions_is_named(name, shape, convert):
    weights = load_golden('lion_selective_s_pos_cls').weights | {name: torch.zeros(shape)}
    message = error_of(convert, weights, system='lion')
    assert f'has the shape {shape}' in message


def test_one_system_is_not_taken_for_another(convert):
    message = error_of(convert, load_golden('lion_decay_s').weights, system='l2vit')
    assert 'names are not those of the original L2ViT classifier' in message


# Sizes


def zoo_weights(arch):
    """Weights of an arch of the zoo under our names, taking no memory to speak of."""
    with torch.device('meta'):
        model = torch.nn.ModuleDict(
            {'backbone': L2ViT(arch), 'head': torch.nn.ModuleDict({'fc': torch.nn.Linear(768, 2)})}
        )
    return {k: torch.zeros(()).expand(v.shape) for k, v in model.state_dict().items()}


def test_the_arch_is_told_from_the_shapes(convert):
    assert convert(zoo_weights('small'))['meta']['arch'] == 'small'
    assert convert(zoo_weights('small'), '--arch', 'small', '--force')['meta']['arch'] == 'small'


def test_another_size_than_the_one_given_is_refused_with_what_differs(convert):
    message = error_of(convert, zoo_weights('small'), '--arch', 'tiny')
    assert re.search(
        r'src\.pth is not a checkpoint of l2vit: against arch tiny, \d+ unexpected, such as '
        r'backbone\.stages\.2\.1\d\..*; its shapes are those of arch small',
        message,
    )


# The head


@pytest.fixture
def class_index(tmp_path):
    """A class-index file that begins with `first` and then counts up."""

    def write(*first):
        path = tmp_path / 'classes.txt'
        rows = [*first, *range(21841)][:1000]
        path.write_text(''.join(f'{row}\n' for row in rows))
        return path

    return write


@pytest.fixture
def in22k():
    rows = torch.arange(21841.0)
    head = {'head.weight': rows[:, None].expand(-1, 128).clone(), 'head.bias': rows}
    return GOLDEN.weights | head


def test_the_head_of_22k_classes_becomes_one_of_1000(convert, class_index, in22k, capsys):
    converted = convert(in22k, '--class-index', class_index(21840, 20000, 7))
    head = converted['state_dict']['head.fc.weight']
    assert head.shape == (1000, 128)
    assert converted['state_dict']['head.fc.bias'][:5].tolist() == [21840, 20000, 7, 0, 1]
    assert torch.equal(head[:, 0], converted['state_dict']['head.fc.bias'])
    assert converted['meta']['num_classes'] == 1000
    assert 'class 7 is taken by several lines: [3, 11]' in capsys.readouterr().out


def test_a_bad_class_index_file_is_refused_by_the_line(convert, class_index, in22k, tmp_path):
    index = class_index(1, 21841)
    message = error_of(convert, in22k, '--class-index', index)
    assert re.search(r'classes\.txt, line 2: 21841 is out of range', message)
    assert not (tmp_path / 'dst.pth').exists()


# What is refused


def without(weights, *names):
    return {name: value for name, value in weights.items() if name not in names}


REFUSED = {
    'another model': (
        {'patch_embed.proj.weight': torch.zeros(2), 'head.weight': torch.zeros(2, 2)},
        r'not a checkpoint of l2vit: 1 of 2 names are not those .* patch_embed\.proj\.weight',
    ),
    'weights missing': (
        without(GOLDEN.weights, 'stages.0.0.mlp.fc1.bias', 'head.bias'),
        r'against arch \{.*\}, 2 missing, such as backbone\.stages.*mlp\.fc1\.bias, head\.fc\.bias',
    ),
    'a stage missing': (
        without(GOLDEN.weights, 'downsample_layers.2.proj.weight'),
        r'backbone\.downsamples\.2\.conv\.weight is missing',
    ),
    'weights left over in our names': (
        {**classifier().state_dict(), 'neck.weight': torch.zeros(2)},
        r'1 unexpected, such as neck\.weight',
    ),
    'a width that heads do not divide': (
        GOLDEN.weights | {'stages.3.1.attn.temperature': torch.zeros(7, 1, 1)},
        'multiple of num_heads',
    ),
    'a detector': (
        {
            **{f'backbone.{name}': value for name, value in GOLDEN.weights.items()},
            'rpn_head.rpn_conv.weight': torch.zeros(2),
        },
        r'is a detection checkpoint, with weights such as rpn_head\.',
    ),
    'a segmentor': (
        {'state_dict': {'decode_head.conv_seg.weight': torch.zeros(2)}},
        'is a segmentation checkpoint',
    ),
    'no weights': ({'epoch': 3}, r"holds the keys \['epoch'\]"),
}


@pytest.mark.parametrize('case', REFUSED)
def test_anything_else_is_refused_in_one_line(case, refuses_in_one_line):
    assert refuses_in_one_line(*REFUSED[case])


def test_a_moving_average_that_is_not_there_is_refused(convert):
    assert re.search('has no moving average', error_of(convert, {'model': GOLDEN.weights}, '--ema'))


def test_a_file_that_is_there_is_kept_unless_forced(convert, tmp_path, capsys):
    (tmp_path / 'dst.pth').write_text('precious')
    assert error_of(convert, GOLDEN.weights) == 2
    assert 'dst.pth is there already; --force overwrites it' in capsys.readouterr().err
    assert (tmp_path / 'dst.pth').read_text() == 'precious'
    assert convert(GOLDEN.weights, '--force')['state_dict']


@pytest.mark.parametrize(
    ('arguments', 'dst', 'message'),
    [
        (['--arch', 'huge'], 'dst.pth', "l2vit has no arch 'huge'; choose from tiny, small, base"),
        ([], '.', 'is a folder; give the name of a file'),
    ],
)
def test_bad_arguments_are_refused(convert, arguments, dst, message, capsys):
    assert error_of(convert, GOLDEN.weights, *arguments, dst=dst) == 2
    assert message in capsys.readouterr().err
