"""Conversion of checkpoints to plain data and back.

`torch.load(weights_only=True)`, the default since torch 2.6, builds tensors and plain containers
and refuses everything else, also MMEngine's HistoryBuffer and numpy's scalars and arrays, which a
runner's checkpoint is full of. `to_plain` replaces them by plain data, and `from_plain` restores
them.
"""

import logging
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

TAG = 'mmvitlin.type'  # the key of dicts that stand for other types
PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)


def to_plain(value: Any, path: str = '') -> Any:
    """Convert `value` to tensors, containers and scalars, recursively.

    Args:
        value: any nesting of dicts, lists, tuples, scalars, tensors, numpy data, HistoryBuffers.
        path: place of `value` in the checkpoint, for the warning about values that have no plain
            form and become None.
    """
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in PLAIN or isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return {TAG: 'ndarray', 'dtype': str(value.dtype), 'values': value.tolist()}
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {
            TAG: 'HistoryBuffer',
            'log': torch.from_numpy(log),
            'count': torch.from_numpy(count),
            'max_length': value.max_length,
        }
    if isinstance(value, dict):
        return {to_plain(k, path): to_plain(v, f'{path}.{k}') for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        plain = [to_plain(item, f'{path}[{index}]') for index, item in enumerate(value)]
        return plain if isinstance(value, list) else tuple(plain)
    if isinstance(value, (set, frozenset)):
        return {TAG: 'set', 'values': [to_plain(item, path) for item in value]}
    if isinstance(value, PurePath):
        return str(value)
    print_log(
        f'{path} is a {type(value).__name__}, which a checkpoint cannot hold safely: saved as None',
        'current',
        logging.WARNING,
    )
    return None


def from_plain(value: Any) -> Any:
    """Restore the values that `to_plain` converted; leave everything else as it is."""
    if isinstance(value, dict):
        kind = value.get(TAG)
        if kind == 'ndarray':
            return np.array(value['values'], dtype=value['dtype'])
        if kind == 'set':
            return set(from_plain(value['values']))
        if kind == 'HistoryBuffer':
            log, count = value['log'].cpu().numpy(), value['count'].cpu().numpy()
            return HistoryBuffer(log, count, value['max_length'])
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(from_plain(item) for item in value)
    return value
