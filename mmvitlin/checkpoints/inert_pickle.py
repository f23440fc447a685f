"""Reading the pickle in a checkpoint without calling anything that it names.

A pickle is a program: it looks names up, calls what it finds with any arguments, and sets any
attributes of the results. Here each allowed name is replaced by a class of this file that records
the call and does nothing else, so that a running program creates only Python's own containers and
numbers, and `Recorded` calls. Afterwards `Builder` builds tensors, arrays and containers from the
calls whose arguments are exactly those that torch, numpy and MMEngine write; everything else is
refused.

Listing a name is harmless as long as this holds:

- a listed name is a subclass of `Recorded` or a constant, never a function or a class of a library,
  for pickles can replace a function's defaults and call a class's constructor;
- a `Recorded` call takes its state by `__setstate__`, has no `__dict__`, and is not hashable, so
  that it is no key whose `__eq__` or `__hash__` runs later;
- builders check types exactly (no subclass), and sizes against the bytes that are there.
"""

import io
import pickle
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn

from mmvitlin.compat import set_versions

BUFFER_METHODS = ('min', 'max', 'mean', 'current')  # the names that a HistoryBuffer looks up
LEAVES = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.dtype)
MAX_DIMS = 64  # of a tensor or an array
# Python hashes a tuple, as the key of a dict, by recursion in C: without these limits a small file
# overflows the stack, which ends the process, or keeps it busy for ever.
MAX_TUPLES = 200  # one in another
MAX_TUPLE_ITEMS = 10**6  # with those of the tuples in it
# Opcodes that fetch objects from outside of the pickle: its extension registry, buffers, and
# persistent names in text, which torch does not write.
FOREIGN = {'EXT1', 'EXT2', 'EXT4', 'NEXT_BUFFER', 'READONLY_BUFFER', 'PERSID'}
SIMPLE_DTYPES = {'b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8'}


class RefusedError(Exception):
    """Pickle that needs more than tensors and plain data; the message names what."""


class UnsupportedTensorError(RefusedError):
    """A tensor that is more than a view of bytes, such as a sparse one."""


class Storage(NamedTuple):
    """The bytes of a tensor in the archive: a record's name, how many, and their dtype if known."""

    key: str
    num_bytes: int
    dtype: torch.dtype | None


class Recorded:
    """Recorded call of a pickle: calling the class only stores the arguments.

    Attributes:
        args: the arguments.
        state: the state that the pickle sets on the result; None for none.
    """

    __slots__ = ('args', 'state')
    __hash__ = None  # type: ignore[assignment]  # Python's way to make a class unhashable
    args: tuple
    state: Any
    kind = ''  # the name that was called

    def __new__(cls, *args):
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state):
        self.state = state


class RecordedDict(Recorded):
    """Recorded OrderedDict, which the pickle then fills: pairs stay in a list, none is hashed."""

    __slots__ = ('pairs',)
    pairs: list[tuple[Any, Any]]

    def __new__(cls, *args):
        self = super().__new__(cls, *args)
        self.pairs = []
        return self

    def __setitem__(self, key, value):
        self.pairs.append((key, value))


class Latin1(Recorded):
    """`_codecs.encode` or an empty `bytes`, as protocol 2 writes bytes: characters, no codec."""

    __slots__ = ()

    def __new__(cls, text='', codec='latin1'):
        if type(text) is not str or codec != 'latin1':
            raise RefusedError('bytes of another codec than latin1')
        return text.encode('latin1')


class CommandLine:
    """An argparse.Namespace of a checkpoint, its arguments as attributes: data, and no code."""


def read_pickle(content: bytes) -> Any:
    """Run a pickle's program, recording its calls.

    Returns:
        Python's containers, strings and numbers, `Recorded` calls and, as arguments in these, the
        classes that stand for names.

    Raises:
        RefusedError: the program names something that is not listed here.
        Exception: whatever a damaged one leads to.
    """
    check_program(io.BytesIO(content))
    return _Unpickler(io.BytesIO(content), encoding='utf-8').load()


def check_program(file: BinaryIO) -> None:
    """Read a pickle's program, from where `file` stands to its end, without running it.

    Raises:
        RefusedError: it fetches objects from outside, or has tuples beyond the limits.
        Exception: whatever a damaged one leads to.
    """
    # Of each object (depth of tuples, items of tuples); None for a mark.
    stack: list[tuple[int, int] | None] = []
    memo: dict[int, tuple[int, int] | None] = {}
    program: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(file)
    for opcode, argument, _ in program:
        name = opcode.name
        if name in FOREIGN:
            raise RefusedError(f'the opcode {name}')
        if name == 'MARK':
            stack.append(None)
        elif name == 'MEMOIZE':
            memo[len(memo)] = stack[-1]
        elif name.endswith('PUT'):
            if argument > file.tell():
                raise pickle.UnpicklingError('a memo that is larger than the file')
            memo[argument] = stack[-1]
        elif name.endswith('GET'):
            stack.append(memo[argument])
        else:
            taken = _take(stack, opcode.stack_before)
            depth = max((size[0] for size in taken), default=0)
            if name.startswith('TUPLE'):
                size = depth + 1, 1 + sum(size[1] for size in taken)
            else:  # an object that contains or changes a tuple counts like the tuple
                size = depth, max((size[1] for size in taken), default=1)
            if size[0] > MAX_TUPLES or size[1] > MAX_TUPLE_ITEMS:
                raise RefusedError('tuples within tuples')
            stack.extend([size] * len(opcode.stack_after))


def _take(stack: list, kinds: list) -> list:
    """Pop an opcode's inputs from a stack: as many as `kinds`, or all down to the last mark."""
    if pickletools.markobject not in kinds:
        taken = stack[len(stack) - len(kinds) :] if kinds else []
        del stack[len(stack) - len(kinds) :]
        return [size for size in taken if size is not None]
    taken = []
    while stack[-1] is not None:
        taken.append(stack.pop())
    stack.pop()
    below = kinds.index(pickletools.markobject)
    return taken + _take(stack, kinds[:below])


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        path = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
        if path in REFUSED_TENSORS:
            raise UnsupportedTensorError(REFUSED_TENSORS[path])
        if path not in NAMES:
            raise RefusedError(f'the name {path}')
        return NAMES[path]

    def persistent_load(self, pid: Any) -> Recorded:
        return NAMES['storage'](pid)


class Builder:
    """Builder of tensors, arrays and containers from a recorded pickle.

    Args:
        read_storage: returns the bytes of a storage as a uint8 tensor (num_bytes,) on the wanted
            device; called once per storage.
    """

    def __init__(self, read_storage: Callable[[Storage], Tensor]):
        self._read_storage = read_storage
        self.built: dict[int, tuple[Any, Any]] = {}  # id -> recorded, held to keep the id; built
        self._bytes: dict[str, Tensor] = {}

    def build(self, recorded: Any) -> Any:
        """Build a recorded object and everything in it; one that occurs twice is built once.

        Raises:
            RefusedError: a call with other arguments than checkpoints have.
        """
        kind = type(recorded)
        if kind in LEAVES:
            return recorded
        if id(recorded) in self.built:
            return self.built[id(recorded)][1]
        if kind is list or kind is dict:
            built: Any = kind()  # before its items, which may hold it
            self.built[id(recorded)] = recorded, built
            if kind is list:
                built.extend(map(self.build, recorded))
            else:  # keys are hashable, so no recorded call is in them
                built.update((key, self.build(value)) for key, value in recorded.items())
            return built
        if kind is tuple:
            built = tuple(map(self.build, recorded))
        elif kind in (set, frozenset):
            built = recorded
        elif kind in BUILDERS:
            _check(recorded.state is None or kind.kind in STATEFUL, recorded)
            built = BUILDERS[kind](self, recorded)
        else:
            raise RefusedError(f'{_name(recorded)} as a value')
        self.built[id(recorded)] = recorded, built
        return built

    def read(self, storage: Storage) -> Tensor:
        """Read the bytes of a storage, once."""
        if storage.key not in self._bytes:
            self._bytes[storage.key] = self._read_storage(storage)
        found = self._bytes[storage.key]
        if len(found) != storage.num_bytes:
            raise RefusedError(f'a storage of {storage.num_bytes} bytes where {len(found)} are')
        return found


def read_placement(recorded: Any) -> tuple[Storage, torch.dtype, int, tuple, tuple, bool] | None:
    """Check the arguments of a recorded tensor, and return the place and layout of its values.

    Returns:
        The storage, the dtype, and in elements offset, size and stride, and whether it requires a
        gradient; None if `recorded` is not a tensor.

    Raises:
        RefusedError: other arguments than torch writes, or values outside of the storage.
    """
    if type(recorded) not in (TENSOR, TYPED_TENSOR):
        return None
    storage, offset, size, stride, requires_grad, hooks, *rest = _args(recorded, 6, 8)
    dtype: Any = None
    if type(recorded) is TYPED_TENSOR:
        dtype, rest = (rest or [None])[0], rest[1:]
    _check(type(storage) is NAMES['storage'] and rest in ([], [None], [{}]), recorded)
    _check(type(hooks) is ORDERED_DICT and not hooks.pairs and not hooks.args, recorded)
    stored = _read_storage_id(storage)
    dtype = dtype or stored.dtype
    _check(type(dtype) is torch.dtype and type(requires_grad) is bool, recorded)
    numbers = [offset, *_ints(size, recorded), *_ints(stride, recorded)]
    _check(all(type(n) is int and n >= 0 for n in numbers), recorded)
    _check(len(size) == len(stride) <= MAX_DIMS, recorded)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if all(size) else -1
    if (last + 1) * dtype.itemsize > stored.num_bytes or max(numbers) >= 2**63:
        raise RefusedError('a tensor that reaches outside of its storage')
    return stored, dtype, offset, size, stride, requires_grad


def _read_storage_id(recorded: Recorded) -> Storage:
    """Check the name of a storage: ('storage', type, key, location, number of elements)."""
    (pid,) = recorded.args
    _check(type(pid) is tuple and len(pid) == 5 and pid[0] == 'storage', recorded)
    _, kind, key, location, count = pid
    _check(isinstance(kind, type) and kind in STORAGE_DTYPES, recorded)
    _check(type(key) is str and type(location) is str and type(count) is int, recorded)
    _check(count >= 0, recorded)
    dtype = STORAGE_DTYPES[kind]
    return Storage(key, count * (dtype.itemsize if dtype else 1), dtype)


def _tensor(builder: Builder, recorded: Recorded) -> Tensor:
    placement = read_placement(recorded)
    assert placement is not None  # `BUILDERS` names this for tensors alone
    stored, dtype, offset, size, stride, requires_grad = placement
    values = builder.read(stored)
    values = values[: len(values) // dtype.itemsize * dtype.itemsize].view(dtype)
    return values.as_strided(size, stride, offset).requires_grad_(requires_grad)


def _parameter(builder: Builder, recorded: Recorded) -> nn.Parameter:
    data, requires_grad, *_ = _args(recorded, 3, 4)
    data = builder.build(data)
    _check(type(data) is Tensor and type(requires_grad) is bool, recorded)
    return nn.Parameter(data.detach(), requires_grad)


def _tensor_with_attributes(builder: Builder, recorded: Recorded) -> Tensor:
    """Build the tensor without the attributes that were set on it."""
    rebuild, kind, args, _ = _args(recorded, 4)
    _check(kind in [NAMES[path] for path in TENSOR_TYPES] and type(args) is tuple, recorded)
    _check(rebuild in (TENSOR, TYPED_TENSOR, PARAMETER), recorded)
    return builder.build(rebuild(*args))


def _ordered_dict(builder: Builder, recorded: RecordedDict) -> OrderedDict:
    """Build an OrderedDict, with the versions of modules that a state dict carries."""
    (pairs,) = _args(recorded, 0, 1) or ([],)
    _check(
        type(pairs) is list and all(type(p) in (list, tuple) and len(p) == 2 for p in pairs),
        recorded,
    )
    built: OrderedDict[Any, Any] = OrderedDict()
    builder.built[id(recorded)] = recorded, built
    for key, value in [*pairs, *recorded.pairs]:
        built[key] = builder.build(value)
    if type(recorded.state) is dict and '_metadata' in recorded.state:
        metadata = builder.build(recorded.state['_metadata'])
        _check(isinstance(metadata, dict), recorded)
        set_versions(built, metadata)
    return built


def _counter(builder: Builder, recorded: Recorded) -> Counter:
    (counts,) = _args(recorded, 0, 1) or ({},)
    _check(type(counts) is dict and all(type(n) is int for n in counts.values()), recorded)
    return Counter(counts)


def _set(builder: Builder, recorded: Recorded) -> set | frozenset:
    (items,) = _args(recorded, 0, 1) or ([],)
    _check(type(items) in (list, tuple), recorded)
    return (set if type(recorded) is SET else frozenset)(items)


def _complex(builder: Builder, recorded: Recorded) -> complex:
    parts = _args(recorded, 2)
    _check(all(type(part) is float for part in parts), recorded)
    return complex(*parts)


def _bytearray(builder: Builder, recorded: Recorded) -> bytearray:
    (content,) = _args(recorded, 0, 1) or (b'',)
    _check(type(content) is bytes, recorded)
    return bytearray(content)


def _size(builder: Builder, recorded: Recorded) -> torch.Size:
    (size,) = _args(recorded, 1)
    return torch.Size(_ints(size, recorded))


def _device(builder: Builder, recorded: Recorded) -> torch.device:
    args = _args(recorded, 1, 2)
    _check(type(args[0]) is str and all(type(index) is int for index in args[1:]), recorded)
    return torch.device(*args)


def _dtype(builder: Builder, recorded: Recorded) -> np.dtype:
    """Build a dtype of plain numbers: no object, structure or string, nothing but a code."""
    code, *_ = _args(recorded, 1, 3)
    _check(type(code) is str and code in SIMPLE_DTYPES, recorded)
    state = recorded.state if recorded.state is not None else (3, '=')
    _check(type(state) is tuple and len(state) >= 2, recorded)
    version, order, *rest = state
    _check(type(version) is int and version in (3, 4) and type(order) is str, recorded)
    _check(order in ('<', '>', '|', '=') and all(x in (None, -1, 0) for x in rest), recorded)
    return np.dtype(code).newbyteorder(order)


def _scalar(builder: Builder, recorded: Recorded) -> np.generic:
    dtype, content = _args(recorded, 2)
    _check(type(dtype) is DTYPE and type(content) is bytes, recorded)
    dtype = builder.build(dtype)
    _check(len(content) == dtype.itemsize, recorded)
    return np.frombuffer(content, dtype)[0]


def _array(builder: Builder, recorded: Recorded) -> np.ndarray:
    """Build an array of plain numbers from exactly as many bytes as it has."""
    _check(_args(recorded, 3)[0] is NAMES['numpy.ndarray'], recorded)
    state = recorded.state
    _check(type(state) is tuple and len(state) == 5 and state[0] == 1, recorded)
    _, shape, dtype, by_column, content = state
    shape = _ints(shape, recorded)
    _check(type(dtype) is DTYPE and type(by_column) is bool and type(content) is bytes, recorded)
    dtype = builder.build(dtype)
    count = dtype.itemsize
    for n in shape:
        _check(n >= 0, recorded)
        count *= n
    _check(len(shape) <= MAX_DIMS // 2 and len(content) == count, recorded)
    flat = np.frombuffer(content, dtype)
    return flat.reshape(shape, order='F' if by_column else 'C').copy()


def _history_buffer(builder: Builder, recorded: Recorded) -> HistoryBuffer:
    """Build a HistoryBuffer of two arrays; the statistics that it registered are MMEngine's."""
    _args(recorded, 0)
    state = recorded.state
    _check(type(state) is dict, recorded)
    log, count = (state.get(f'_{name}_history') for name in ('log', 'count'))
    _check(type(log) is ARRAY and type(count) is ARRAY, recorded)
    log, count = builder.build(log), builder.build(count)
    length = state.get('max_length')
    _check(type(length) is int and length >= len(log), recorded)
    _check(log.ndim == 1 and log.shape == count.shape, recorded)
    return HistoryBuffer(log, count, length)


def _statistic(builder: Builder, recorded: Recorded) -> str:
    """Return the name of a statistic of HistoryBuffer, the only getattr in checkpoints."""
    owner, name = _args(recorded, 2)
    _check(owner is NAMES[BUFFER] and name in BUFFER_METHODS, recorded)
    return name


def _command_line(builder: Builder, recorded: Recorded) -> CommandLine:
    _args(recorded, 0)
    state = recorded.state if recorded.state is not None else {}
    _check(type(state) is dict and all(type(name) is str for name in state), recorded)
    built = CommandLine()
    builder.built[id(recorded)] = recorded, built
    values = {name: builder.build(value) for name, value in state.items()}
    vars(built).update((name, v) for name, v in values.items() if not name.startswith('__'))
    return built


def _args(recorded: Recorded, least: int, most: int | None = None) -> tuple:
    """Check the number of arguments, and return them."""
    _check(least <= len(recorded.args) <= (most or least), recorded)
    return recorded.args


def _ints(value: Any, recorded: Recorded) -> tuple[int, ...]:
    """Return a tuple of integers, from a tuple or a recorded torch.Size."""
    if type(value) is SIZE:
        (value,) = _args(value, 1)
    _check(type(value) is tuple and all(type(n) is int for n in value), recorded)
    return value


def _check(holds: bool, recorded: Any = None) -> None:
    if not holds:
        raise RefusedError(f'{_name(recorded)} with other arguments than checkpoints have')


def _name(recorded: Any) -> str:
    kind = recorded if isinstance(recorded, type) else type(recorded)
    return getattr(kind, 'kind', '') or kind.__name__


def _stand_in(path: str, base: type = Recorded) -> type[Any]:
    return type(path.rpartition('.')[2], (base,), {'__slots__': (), 'kind': path})


BUFFER = f'{HistoryBuffer.__module__}.HistoryBuffer'
TENSOR = _stand_in('torch._utils._rebuild_tensor_v2')
TYPED_TENSOR = _stand_in('torch._utils._rebuild_tensor_v3')  # of a dtype without a storage class
PARAMETER = _stand_in('torch._utils._rebuild_parameter')
ORDERED_DICT = _stand_in('collections.OrderedDict', RecordedDict)
SIZE, SET = _stand_in('torch.Size'), _stand_in('builtins.set')
DTYPE, ARRAY = _stand_in('numpy.dtype'), _stand_in('numpy.core.multiarray._reconstruct')

# Stand-in of each call -> the function that builds its result. Each builder refuses all arguments
# but those that are written for plain tensors, arrays and containers.
BUILDERS: dict[type[Any], Callable[[Builder, Any], Any]] = {
    TENSOR: _tensor,  # a view of bytes of the archive, inside of them
    TYPED_TENSOR: _tensor,
    PARAMETER: _parameter,  # wraps such a tensor
    _stand_in('torch._utils._rebuild_parameter_with_state'): _parameter,
    _stand_in('torch._tensor._rebuild_from_type_v2'): _tensor_with_attributes,
    ORDERED_DICT: _ordered_dict,  # a dict, and `_metadata`, a dict that load_state_dict looks into
    _stand_in('collections.Counter'): _counter,  # from a dict of integers
    SET: _set,  # from a list
    _stand_in('builtins.frozenset'): _set,
    _stand_in('builtins.complex'): _complex,  # of two floats
    _stand_in('builtins.bytearray'): _bytearray,  # of bytes, never of a length
    SIZE: _size,  # of integers
    _stand_in('torch.device'): _device,  # a name and a number
    DTYPE: _dtype,  # one of twelve codes: no object whose bytes would be pointers
    _stand_in('numpy.core.multiarray.scalar'): _scalar,  # as many bytes as the dtype has
    ARRAY: _array,  # as many bytes as the shape has, copied
    _stand_in(BUFFER): _history_buffer,  # two such arrays; its class-wide methods stay as they are
    _stand_in('builtins.getattr'): _statistic,  # four words, no attribute of anything
    _stand_in('argparse.Namespace'): _command_line,  # an object of a class without methods
}

# Calls whose results get a state; their builders check that state.
STATEFUL = {ORDERED_DICT.kind, DTYPE.kind, ARRAY.kind, BUFFER, 'argparse.Namespace'}

# What a pickle may name. Some entries are arguments, and nothing builds a call of them:
# `numpy.ndarray`, the types of tensors with attributes, and torch's storages. Dtypes are constants.
TENSOR_TYPES = ('torch.Tensor', 'torch.nn.parameter.Parameter')
NAMES: dict[str, Any] = {stand_in.kind: stand_in for stand_in in BUILDERS}
NAMES |= {
    f'numpy._core.multiarray.{name}': NAMES[f'numpy.core.multiarray.{name}']  # since numpy 2
    for name in ('_reconstruct', 'scalar')
}
NAMES |= {'_codecs.encode': Latin1, 'builtins.bytes': Latin1}
NAMES |= {path: _stand_in(path) for path in ('numpy.ndarray', *TENSOR_TYPES)}
NAMES['storage'] = _stand_in('storage')  # has no dot: `find_class` never asks for it
TORCH_DTYPES = (
    *('float64', 'float32', 'float16', 'bfloat16', 'complex128', 'complex64', 'bool'),
    *('uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int16', 'int32', 'int64'),
    *('float8_e4m3fn', 'float8_e4m3fnuz', 'float8_e5m2', 'float8_e5m2fnuz'),
)
NAMES |= {f'torch.{n}': getattr(torch, n) for n in TORCH_DTYPES if hasattr(torch, n)}
STORAGES = {
    **{'Double': torch.float64, 'Float': torch.float32, 'Half': torch.float16},
    **{'BFloat16': torch.bfloat16, 'Bool': torch.bool, 'Byte': torch.uint8, 'Char': torch.int8},
    **{'Short': torch.int16, 'Int': torch.int32, 'Long': torch.int64},
    **{'ComplexFloat': torch.complex64, 'ComplexDouble': torch.complex128},
}
STORAGE_DTYPES: dict[type[Any], torch.dtype | None] = {
    _stand_in(f'torch.{name}Storage'): dtype for name, dtype in STORAGES.items()
}
STORAGE_DTYPES[_stand_in('torch.storage.UntypedStorage')] = None
NAMES |= {stand_in.kind: stand_in for stand_in in STORAGE_DTYPES}

# Kinds of tensors that are more than a view of bytes. Weights and label maps are of other kinds.
REFUSED_TENSORS = {
    'torch._utils._rebuild_sparse_tensor': 'a sparse tensor',
    'torch._utils._rebuild_sparse_csr_tensor': 'a sparse tensor',
    'torch._utils._rebuild_qtensor': 'a quantised tensor',
    'torch._utils._rebuild_nested_tensor': 'a nested tensor',
    'torch._utils._rebuild_meta_tensor_no_storage': 'a meta tensor, which has no values',
    'torch._utils._rebuild_wrapper_subclass': 'a tensor of a subclass',
    'torch._utils._rebuild_device_tensor_from_numpy': 'a tensor of another kind of device',
    'torch._utils._rebuild_device_tensor_from_cpu_tensor': 'a tensor of another kind of device',
}
