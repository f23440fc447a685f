"""A pickle's calls are recorded and not run, for all names and arguments."""

import pickle
import struct

import numpy as np
import pytest
import torch

from mmvitlin.checkpoints.inert_pickle import (
    BUILDERS,
    NAMES,
    Builder,
    Recorded,
    RefusedError,
    Storage,
    read_pickle,
)

POINTERS = struct.pack('<8Q', *[0x1000] * 8)
STORAGE = ('storage', NAMES['torch.FloatStorage'], '0', 'cpu', 4)
# Arguments that a file could try to call something with.
HOSTILE = {
    'object pointers': ((8,), 'O', POINTERS),
    'an object dtype': ('O', False, True),
    'a structure': ([('a', 'O')], False, True),
    'a string dtype': ('S8', False, True),
    'a length': (2**62,),
    'a negative length': (-1,),
    'a name': ('os.system',),
    'a class and a name': (NAMES['torch.Tensor'], '__init__'),
    'a dict of names': ({'__class__': 'x', '__reduce__': 'y'},),
    'bytes': (POINTERS,),
    'a codec': ('x', 'zlib'),
    'recorded calls': (Recorded('os.system'), Recorded(), Recorded()),
    'huge tensors': (Recorded(STORAGE), 0, (2**40,), (1,), False, Recorded()),
    'many': tuple(range(20)),
}
PLAIN = {('builtins.bytearray', 'bytes')}  # as it is written


def build(recorded):
    return Builder(lambda storage: torch.zeros(16, dtype=torch.uint8)).build(recorded)


@pytest.mark.parametrize(
    ('path', 'arguments'),
    [(s.kind, name) for s in BUILDERS for name in HOSTILE if (s.kind, name) not in PLAIN],
)
def test_every_name_refuses_hostile_arguments(path, arguments):
    recorded = NAMES[path](*HOSTILE[arguments])
    with pytest.raises((RefusedError, RuntimeError)):
        build(recorded)


@pytest.mark.parametrize(
    'state',
    [
        (1, (8,), NAMES['numpy.dtype']('O'), False, POINTERS),
        (1, (8,), NAMES['numpy.dtype']([('a', 'O')]), False, POINTERS),
        (1, (8,), NAMES['numpy.dtype']('O8'), False, POINTERS),
        (1, (9,), NAMES['numpy.dtype']('i8'), False, POINTERS),
        (1, (7,), NAMES['numpy.dtype']('i8'), False, POINTERS),
        (1, (-8, -1), NAMES['numpy.dtype']('i8'), False, POINTERS),
        (1, (8,), NAMES['numpy.dtype']('i8'), False, [1] * 8),
        (1, (8,), NAMES['numpy.dtype'], False, POINTERS),
        (1, (True,) * 3, NAMES['numpy.dtype']('i8'), False, POINTERS),
        {'__class__': 'x'},
        None,
    ],
)
def test_an_array_is_exactly_its_numbers(state):
    array = NAMES['numpy.core.multiarray._reconstruct'](NAMES['numpy.ndarray'], (0,), b'b')
    array.__setstate__(state)
    with pytest.raises(RefusedError):
        build(array)


@pytest.mark.parametrize('path', NAMES)
def test_a_name_is_inert_however_it_is_used(path):
    """A listed name is a constant, or a class of ours that records: none of a library's."""
    value = NAMES[path]
    if isinstance(value, torch.dtype):
        return
    assert isinstance(value, type)
    assert issubclass(value, Recorded)
    assert value.__module__ == 'mmvitlin.checkpoints.inert_pickle'
    with pytest.raises(TypeError):
        value.__setstate__({'__new__': print})  # as BUILD would, on the class itself
    instance = value() if path not in ('_codecs.encode', 'builtins.bytes') else None
    if instance is not None:
        assert not hasattr(instance, '__dict__')
        with pytest.raises(TypeError):
            hash(instance)


def test_state_is_only_kept():
    for path in NAMES:
        if isinstance(NAMES[path], type) and NAMES[path]() != b'':
            instance = NAMES[path]()
            instance.__setstate__({'__class__': int, 'kind': 'x'})
            assert type(instance) is NAMES[path]


@pytest.mark.parametrize(
    ('size', 'stride', 'offset'),
    [((5,), (1,), 0), ((2, 2), (2, 2), 0), ((1,), (1,), 4), ((2,), (2**62,), 0), ((1,), (1,), -1)],
)
def test_a_tensor_stays_within_its_storage(size, stride, offset):
    hooks = NAMES['collections.OrderedDict']()
    tensor = NAMES['torch._utils._rebuild_tensor_v2']
    storage = NAMES['storage'](STORAGE)
    assert build(tensor(storage, 0, (2, 2), (2, 1), False, hooks)).shape == (2, 2)
    with pytest.raises(RefusedError):
        build(tensor(storage, offset, size, stride, False, hooks))


def test_a_storage_has_as_many_bytes_as_it_says():
    hooks = NAMES['collections.OrderedDict']()
    storage = NAMES['storage']((*STORAGE[:4], 5))
    recorded = NAMES['torch._utils._rebuild_tensor_v2'](storage, 0, (5,), (1,), False, hooks)
    with pytest.raises(RefusedError, match='20 bytes where 16 are'):
        build(recorded)
    assert Storage('0', 16, torch.float32) == Storage('0', 16, torch.float32)


@pytest.mark.parametrize('opcode', [b'\x82\x01', b'\x83\x01\x00', b'P0\n', b'\x97'])
def test_opcodes_that_fetch_from_outside_are_refused(opcode):
    with pytest.raises(RefusedError, match='the opcode'):
        read_pickle(b'\x80\x02' + opcode + b'.')


def test_a_huge_memo_is_refused():
    with pytest.raises(pickle.UnpicklingError, match='memo'):
        read_pickle(b'\x80\x02Nr\xff\xff\xff\x7f.')


@pytest.mark.parametrize(
    'nested',
    [
        pytest.param(b')' + b'\x85' * 1_000_000, id='deep'),  # its hash overflows the stack
        pytest.param(b')' + b'2\x86' * 60, id='wide'),  # its hash takes 2**60 steps
        pytest.param(b')' + b'q\x00h\x00h\x00\x86' * 60, id='wide by memo'),
        pytest.param(b')' + b'(t\x85' + b'\x85' * 1_000_000, id='deep after marks'),
        pytest.param(b')' + b'\x85Nb' * 1_000_000, id='deep, with states'),
        pytest.param(b')' + b'\x85(e' * 1_000_000, id='deep, with no items'),
    ],
)
@pytest.mark.parametrize('use', [b'}%sNs', b'(%s\x91', b'\x8f(%s\x90'])
def test_tuples_whose_hash_would_end_the_process_are_refused(nested, use):
    with pytest.raises(RefusedError, match='tuples within tuples'):
        read_pickle(b'\x80\x04' + use % nested + b'.')


def test_tuples_as_they_are_written_are_read():
    value = {('a', (1, (2,))): [(n, (n,)) for n in range(5000)], 'state': tuple(range(5000))}
    for protocol in (2, 4):
        assert read_pickle(pickle.dumps(value, protocol)) == value


def test_what_occurs_twice_is_built_once():
    shared = [np.float64(1).item()]
    built = build({'a': shared, 'b': (shared,)})
    assert built['a'] is built['b'][0]
