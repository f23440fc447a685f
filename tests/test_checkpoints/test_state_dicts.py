"""The weights of a checkpoint are found and compared with a model's."""

import numpy as np
import pytest
import torch

from mmvitlin.checkpoints.state_dicts import (
    compare,
    describe,
    extract_state_dict,
    load_and_compare,
    load_whole,
)
from mmvitlin.errors import CheckpointError

WEIGHTS = {'weight': torch.zeros(2, 3)}


@pytest.mark.parametrize(
    'loaded',
    [
        WEIGHTS,
        {'module.weight': WEIGHTS['weight']},
        dict(state_dict=WEIGHTS),
        dict(ema={}, model=dict(bias=torch.ones(1)), state_dict=WEIGHTS),
    ],
)
def test_weights_are_found_under_the_first_key_or_bare(loaded):
    assert extract_state_dict(loaded, 'file', ('state_dict', 'model')) == WEIGHTS


@pytest.mark.parametrize(
    ('loaded', 'message'),
    [
        ([1], "file holds no dict.* bare or under 'model'"),
        (dict(epoch=3, lr=0.1), r"file holds the keys \['epoch', 'lr'\]"),
        (dict(model={}), r'file holds the keys \[\]'),
    ],
)
def test_a_file_without_weights_is_an_error(loaded, message):
    with pytest.raises(CheckpointError, match=message):
        extract_state_dict(loaded, 'file', ('model',))


def test_differences_are_named_by_kind():
    expected = {name: torch.zeros(2) for name in 'edcba'}
    found = {'a': torch.zeros(2), 'b': torch.zeros(1), 'z': torch.zeros(2), 'y': 3}
    differences = compare(found, expected)
    assert differences == {
        'missing': ['c', 'd', 'e'],
        'unexpected': ['y', 'z'],
        'mismatched': ['b'],
    }
    assert describe(differences) == (
        '3 missing, such as c, d, e; 2 unexpected, such as y, z; 1 mismatched, such as b'
    )
    assert compare(expected, expected) == {}


def test_loading_says_what_did_not_fit():
    module = torch.nn.Linear(3, 2)
    weights = {'weight': torch.ones(2, 3), 'bias': torch.ones(2)}
    assert load_and_compare(module, weights) == {}
    assert torch.equal(module.weight, weights['weight'])
    assert load_and_compare(module, {'weight': weights['weight'], 'gain': torch.ones(2)}) == {
        'missing': ['bias'],
        'unexpected': ['gain'],
    }
    reshaped = {**weights, 'weight': torch.ones(3, 3)}
    assert load_and_compare(module, reshaped) == {'mismatched': ['weight']}


@pytest.mark.parametrize('value', [np.zeros((2, 3)), None, torch.zeros(2, 3, device='meta'), [1]])
def test_what_is_no_tensor_with_values_is_refused_by_name(value):
    loaded = dict(state_dict={'bias': torch.zeros(2), 'weight': value})
    with pytest.raises(CheckpointError, match=r"file holds an? .* under 'weight'"):
        extract_state_dict(loaded, 'file')


def test_weights_that_torch_cannot_load_are_an_error():
    """Not because of their shape, so that a comparison would find no difference."""
    with pytest.raises(CheckpointError, match='weights cannot be loaded'):
        load_and_compare(
            torch.nn.Linear(3, 2), {'weight': np.zeros((2, 3)), 'bias': torch.zeros(2)}
        )


def test_a_whole_checkpoint_is_loaded_and_returned(tmp_path):
    module, path = torch.nn.Linear(3, 2), str(tmp_path / 'model.pth')
    weights = {'weight': torch.ones(2, 3), 'bias': torch.ones(2)}
    torch.save(dict(state_dict=weights, meta=dict(epoch=3)), path)
    assert load_whole(module, path)['meta'] == {'epoch': 3}
    assert torch.equal(module.weight, weights['weight'])
    torch.save(dict(weight=torch.ones(2, 3), gain=torch.ones(1)), path)
    with pytest.raises(CheckpointError, match=r'of 2 weights 1 missing, .* bias; 1 unexpected'):
        load_whole(module, path)
