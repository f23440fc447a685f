"""Runners' checkpoints become plain data for `torch.load(weights_only=True)`, and back."""

import io

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmvitlin.checkpoints import plain_data
from mmvitlin.checkpoints.plain_data import from_plain, to_plain


def through_a_file(value):
    file = io.BytesIO()
    torch.save(to_plain(value), file)
    file.seek(0)
    return from_plain(torch.load(file, weights_only=True))


@pytest.mark.parametrize(
    'value',
    [
        None,
        True,
        3,
        0.1,
        'text',
        b'bytes',
        [1, (2, 'three'), {'four': [5]}],
        {'epoch': 3, 0: 'integer key', 'empty': {}},
    ],
    ids=repr,
)
def test_plain_values_stay_as_they_are(value):
    assert through_a_file(value) == value
    assert type(through_a_file(value)) is type(value)


@pytest.mark.parametrize('scalar', [np.float64(0.1), np.int64(7), np.bool_(True), np.str_('name')])
def test_numpy_scalars_become_python_ones(scalar):
    restored = through_a_file(scalar)
    assert restored == scalar.item()
    assert type(restored) is type(scalar.item())


@pytest.mark.parametrize(
    'array',
    [
        np.array([[1.5, np.inf], [-0.0, 1e-300]]),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.array(['a', 'bc']),
        np.zeros((0,), dtype=np.float32),
    ],
    ids=lambda array: f'{array.dtype}{array.shape}',
)
def test_arrays_keep_dtype_shape_and_values(array):
    restored = through_a_file({'nested': [array]})['nested'][0]
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, array)


def test_history_buffers_keep_their_history():
    buffer = HistoryBuffer(max_length=5)
    for step in range(7):
        buffer.update(step / 3, count=step + 1)
    restored = through_a_file({'loss': buffer})['loss']
    np.testing.assert_array_equal(restored.data[0], buffer.data[0])
    np.testing.assert_array_equal(restored.data[1], buffer.data[1])
    assert restored.max_length == 5
    assert restored.mean(3) == buffer.mean(3)


def test_what_has_no_plain_form_is_named_in_a_warning(monkeypatch):
    warnings = []
    monkeypatch.setattr(plain_data, 'print_log', lambda message, *_: warnings.append(message))

    class Strange:
        pass

    assert to_plain({'a': [Strange()]}, 'message_hub') == {'a': [None]}
    assert len(warnings) == 1
    assert 'message_hub.a[0] is a Strange' in warnings[0]
