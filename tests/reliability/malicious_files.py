"""Files that try to run code when they are loaded, and the doors of the package that they come to.

Run as a program, `python malicious_files.py FOLDER`, it shows every file to every door that this
interpreter can import, and writes a line for each attempt to FOLDER/log: a crash ends the program,
and a second run goes on after the attempt that it died in.
"""

import contextlib
import io
import marshal
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch

from mmvitlin.checkpoints.inert_pickle import NAMES

POINTERS = struct.pack('<16Q', *[0x4141414141] * 16)
NOWHERE = 0x4141414141
DEEP_TUPLE = b')' + b'\x85' * 500_000  # its hash overflows the stack


# Pickles, written by hand: each function returns the opcodes that push one object.


def glob(module, name):
    return b'c' + module.encode() + b'\n' + name.encode() + b'\n'


def path(full):
    return glob(*full.rsplit('.', 1))


def stack_global(module, name):
    return text(module) + text(name) + b'\x93'


def text(value):
    content = value.encode()
    return b'X' + struct.pack('<I', len(content)) + content


def data(value):
    """Push plain data."""
    return pickle.dumps(value, 2)[2:-1] if not isinstance(value, bytes) else raw(value)


def raw(value):
    return glob('_codecs', 'encode') + many(text(value.decode('latin1')), text('latin1')) + b'R'


def many(*items):
    return b'(' + b''.join(items) + b't'


def call(function, *items):
    return function + many(*items) + b'R'


def new(cls, *items):
    return cls + many(*items) + b'\x81'


def build(thing, state):
    return thing + state + b'b'


def mapping(**items):
    return b'}(' + b''.join(text(k) + v for k, v in items.items()) + b'u'


def program(*things, proto=2):
    """A pickle of a dict that has a state dict and whatever `things` push."""
    extra = b''.join(text(f'extra{n}') + thing for n, thing in enumerate(things))
    return b'\x80' + bytes([proto]) + b'}(' + extra + text('state_dict') + b'}u.'


def archive(content, records=(), kind=zipfile.ZIP_STORED):
    """An archive of torch.save around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', kind) as target:
        for name, record in [('data.pkl', content), ('version', b'3\n'), *records]:
            target.writestr(f'archive/{name}', record)
    return file.getvalue()


def legacy(*things):
    magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
    info = dict(protocol_version=1001, little_endian=True, type_sizes={})
    parts = [magic, pickle.dumps(1001, 2), pickle.dumps(info, 2), program(*things)]
    return b''.join([*parts, pickle.dumps([], 2)])


def old_tar(*things):
    """The format of torch 0.1, a tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as target:
        for name in ('sys_info', 'pickle', 'storages', 'tensors'):
            content = program(*things)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return file.getvalue()


def tensor(key='0', count=4, size=(4,), stride=(1,), offset=0, storage='torch.FloatStorage'):
    pid = many(text('storage'), path(storage), text(key), text('cpu'), data(count)) + b'Q'
    arguments = pid, data(offset), data(size), data(stride), b'\x89', call(ORDERED)
    return call(path('torch._utils._rebuild_tensor_v2'), *arguments)


ORDERED = glob('collections', 'OrderedDict')
BUFFER = glob('mmengine.logging.history_buffer', 'HistoryBuffer')
GETATTR = glob('builtins', 'getattr')
NDARRAY = glob('numpy', 'ndarray')
RECONSTRUCT = glob('numpy.core.multiarray', '_reconstruct')


def object_array():
    return call(NDARRAY, data((16,)), text('O'), raw(POINTERS))


def object_state(dtype):
    empty = call(RECONSTRUCT, NDARRAY, data((0,)), raw(b'b'))
    return build(empty, many(data(1), data((16,)), dtype, b'\x89', raw(POINTERS)))


def code_of(statement):
    return marshal.dumps(compile(statement, 'x', 'exec'))


def ways(mark):
    """Name -> file, for a mark that is there if code ran."""
    shell = text(f'touch {mark}')
    python = f'__import__("os").mkdir({str(mark)!r})'
    do = text(python)
    system = call(glob('posix', 'system'), shell)
    storage = [('data/0', bytes(16))]
    attribute = call(GETATTR, BUFFER, text('__init__'))
    function = glob('_codecs', 'encode')
    in_archives = {
        'os.system': system,
        'os.mkdir': call(glob('os', 'mkdir'), text(str(mark))),
        'nt.system': call(glob('nt', 'system'), shell),
        'exec': call(glob('builtins', 'exec'), do),
        'eval': call(glob('builtins', 'eval'), do),
        'eval of Python 2': call(glob('__builtin__', 'eval'), do),
        'subprocess.Popen': call(glob('subprocess', 'Popen'), many(text('touch'), text(str(mark)))),
        'newobj': new(glob('subprocess', 'Popen'), many(text('touch'), text(str(mark)))),
        'newobj_ex': glob('subprocess', 'Popen')
        + many(many(text('touch'), text(str(mark))))
        + b'}\x92',
        'obj': b'(' + glob('posix', 'system') + shell + b'o',
        'inst': b'(' + shell + b'iposix\nsystem\n',
        'stack_global': call(stack_global('posix', 'system'), shell),
        'a nested name': call(stack_global('torch', 'serialization.os.system'), shell),
        'importlib': call(glob('importlib', 'import_module'), text('antigravity')),
        '__import__': call(glob('builtins', '__import__'), text('antigravity')),
        'runpy': call(glob('runpy', '_run_code'), do, b'}'),
        'codecs.decode': call(glob('codecs', 'decode'), do, text('rot13')),
        '_codecs.encode by zlib': call(function, raw(b'x'), text('zlib')),
        'marshal': call(glob('marshal', 'loads'), raw(code_of(python))),
        'a function of code': call(
            call(
                glob('types', 'FunctionType'),
                call(glob('marshal', 'loads'), raw(code_of(python))),
                b'}',
            )
        ),
        'pickle.loads': call(glob('pickle', 'loads'), raw(program(system))),
        'getattr, __init__': attribute,
        'getattr, __globals__': call(GETATTR, attribute, text('__globals__')),
        'getattr of a tensor class': call(GETATTR, path('torch.Tensor'), text('mean')),
        'getattr of a module': call(GETATTR, glob('torch', 'hub'), text('load')),
        'getattr called': call(call(GETATTR, BUFFER, text('mean')), shell),
        'torch.hub.load': call(glob('torch.hub', 'load'), text('a/b'), text('c')),
        'torch.load': call(glob('torch', 'load'), text(str(mark))),
        'torch.jit.load': call(glob('torch.jit', 'load'), text(str(mark))),
        'torch.utils.collect_env': call(glob('torch.utils.collect_env', 'run'), shell),
        'torch.ops': call(glob('torch.ops', 'load_library'), text(str(mark))),
        'numpy runstring': call(glob('numpy.testing._private.utils', 'runstring'), do, b'}'),
        'numpy.load': call(glob('numpy', 'load'), text(str(mark))),
        'mmengine Config': call(glob('mmengine.config', 'Config.fromstring'), do, text('.py')),
        'mmengine get': call(glob('mmengine.utils', 'call_command'), shell),
        'operator': call(glob('operator', 'methodcaller'), text('mkdir'), text(str(mark))),
        'functools.partial': call(glob('functools', 'partial'), glob('posix', 'system'), shell),
        'copyreg': call(glob('copyreg', '_reconstructor'), glob('subprocess', 'Popen'), shell),
        'object array': object_array(),
        'object array in a HistoryBuffer': call(BUFFER, object_array(), object_array()),
        'object dtype by setstate': object_state(call(glob('numpy', 'dtype'), text('O'))),
        'structure by setstate': object_state(
            call(glob('numpy', 'dtype'), data([('a', 'O'), ('b', 'O')]))
        ),
        'object scalar': call(
            glob('numpy._core.multiarray', 'scalar'),
            call(glob('numpy', 'dtype'), text('O8')),
            raw(POINTERS[:8]),
        ),
        'a dtype made an object by setstate': call(
            glob('numpy._core.multiarray', 'scalar'),
            build(
                call(glob('numpy', 'dtype'), text('i8')),
                data((3, '|', None, ('a',), {'a': ('O', 0)}, 8, 8, 27)),
            ),
            raw(POINTERS[:8]),
        ),
        'statistics of a HistoryBuffer': build(
            new(BUFFER), mapping(statistics_methods=mapping(mean=glob('posix', 'system')))
        ),
        'state of a class': build(BUFFER, many(b'N', mapping(__init__=function, update=function))),
        'state of a function': build(function, many(b'N', mapping(__defaults__=data(('x',))))),
        'class of a Namespace': build(
            new(glob('argparse', 'Namespace')), mapping(__class__=BUFFER, __reduce__=function)
        ),
        'slots of a Namespace': build(
            new(glob('argparse', 'Namespace')), many(b'N', mapping(__class__=BUFFER))
        ),
        'attributes of an OrderedDict': build(
            call(ORDERED), mapping(__class__=BUFFER, _metadata=call(function, text('x'), do))
        ),
        'an OrderedDict of calls': call(ORDERED, system),
        'a rebuilt type': call(
            path('torch._tensor._rebuild_from_type_v2'),
            glob('posix', 'system'),
            path('torch.Tensor'),
            many(shell),
            b'}',
        ),
        'a rebuilt type of an allowed name': call(
            path('torch._tensor._rebuild_from_type_v2'), GETATTR, BUFFER, many(BUFFER, do), b'}'
        ),
        'a wrapper subclass': call(path('torch._utils._rebuild_wrapper_subclass'), data(1)),
        'an extension code': b'\x82\x01',
        'a persistent name in text': b'Pos.system\n',
        'a storage of a function': many(
            text('storage'), glob('posix', 'system'), text('0'), text('cpu'), data(4)
        )
        + b'Q',
        'a huge memo': b'Nr\xff\xff\xff\xff',
        'a huge string': b'X\xff\xff\xff\x7f',
        'hashes of calls': b'}' + call(ORDERED) + b'Ns',
        'deep nesting': b']' * 20000 + b'a' * 19999,
        'a deep key': b'}' + DEEP_TUPLE + b'Ns',
        'a deep item of a set': b'(' + DEEP_TUPLE + b'\x91',
    }
    found = {name: archive(program(thing)) for name, thing in in_archives.items()}
    tensors = {
        'a tensor beyond its storage': tensor(size=(2**20,)),
        'a tensor far before its storage': tensor(offset=-NOWHERE),
        'a tensor of huge strides': tensor(size=(2, 2), stride=(2**61, 2**61)),
        'a storage of more bytes than there are': tensor(count=2**20, size=(2**20,)),
        'a storage that is not there': tensor(key='../../etc/passwd'),
        'items set in a tensor': tensor() + data(0) + data(NOWHERE) + b's',
        'a tensor set anew': build(tensor(), many(tensor(), data(NOWHERE), data((4,)), data((1,)))),
    }
    found |= {name: archive(program(thing), storage) for name, thing in tensors.items()}
    for proto in (0, 2, 4):
        found[f'a bare pickle of protocol {proto}'] = program(system, proto=proto)
    return (
        found
        | {
            'the format before 1.6': legacy(system),
            'the format before 1.6, object arrays': legacy(call(BUFFER, object_array(), do)),
            'the format before 1.6, a deep key': legacy(b'}' + DEEP_TUPLE + b'Ns'),
            'the tar of torch 0.1': old_tar(system),
            'TorchScript': archive(
                program(call(glob('__torch__', 'Evil'), do)), [('constants.pkl', program(system))]
            ),
            'two pickles': archive(program(), [('data.pkl', program(system))]),
            'a compressed pickle': archive(program(system), kind=zipfile.ZIP_DEFLATED),
            'a bomb': archive(program(), [('data/0', bytes(10**7))], zipfile.ZIP_DEFLATED),
        }
        | {
            f'{name} of {label}': archive(program(call(path(name), *arguments)))
            for name in NAMES
            if '.' in name and not isinstance(NAMES[name], torch.dtype)
            for label, arguments in {
                'object pointers': (data((16,)), text('O'), raw(POINTERS)),
                'a command': (shell,),
                'a length': (data(2**62),),
                'a function': (glob('posix', 'system'), shell),
                'attributes': (mapping(__class__=BUFFER, __init__=function),),
            }.items()
        }
    )


def object_index(content):
    """The file that keeps a tar's index, its stamp an array of objects."""
    file = io.BytesIO()
    start = b'\x93NUMPY\x01\x00' + struct.pack('<H', 118)
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b'\n'
    pickled = content if content.startswith(b'\x80') else program(data(content))
    with zipfile.ZipFile(file, 'w') as target:
        target.writestr('stamp.npy', start + header + pickled)
    return file.getvalue()


def doors(folder):
    """Door -> what takes the path of a file; only those whose host is installed."""
    from mmengine.runner import CheckpointLoader

    from mmvitlin.checkpoints import safe_load
    from mmvitlin.checkpoints.llama import part_shapes, read_llama_blocks
    from mmvitlin.checkpoints.pretrained import read_pretrained
    from mmvitlin.checkpoints.state_dicts import load_whole
    from mmvitlin.datasets.tar_index import _read
    from mmvitlin.datasets.token_labels.files import read_label_map

    hub = folder / 'hub'
    (hub / 'checkpoints').mkdir(parents=True, exist_ok=True)
    torch.hub.set_dir(str(hub))

    def copy(path, target):
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
        return target

    def url(path):
        copy(path, hub / 'checkpoints/evil.pth')
        return safe_load.load_from_url('https://host.invalid/evil.pth')

    def zoo(path):
        safe_load.ZOOS['torchvision'] = ('torchvision',), lambda: {'evil': str(path)}
        return safe_load.load_checkpoint('torchvision://evil')

    def mmengine(path):
        schemes = CheckpointLoader._schemes.copy()
        safe_load.register_safe_loaders()
        try:
            return CheckpointLoader.load_checkpoint(str(path), 'cpu')
        finally:
            CheckpointLoader._schemes = schemes

    def llama(path):
        target = copy(path, folder / 'llama/consolidated.00.pth')
        return read_llama_blocks(target, part_shapes(8, 16), 1, torch.float32)

    def tar_index(path):
        target = folder / 'train.tar.index.npz'
        target.write_bytes(object_index(path.read_bytes()))
        if _read(target, np.array([1])) is not None:
            raise AssertionError('an index of objects was taken')
        raise ValueError('made anew')

    found = {
        'file': safe_load.load_from_file,
        'bytes': lambda path: safe_load.load_from_bytes(path.read_bytes(), 'file'),
        'mapped file': lambda path: safe_load.load_from_file(path, mmap=True),
        'URL': url,
        'zoo': zoo,
        'MMEngine in our tools': mmengine,
        'init_cfg': lambda path: read_pretrained(str(path)),
        'whole checkpoint': lambda path: load_whole(torch.nn.Linear(2, 2), str(path)),
        'safetensors': lambda path: safe_load.load_from_file(
            copy(path, folder / 'evil.safetensors')
        ),
        'label map': lambda path: read_label_map(str(path.parent), path.name),
        'LLaMA': llama,
        'LLaMA safetensors': lambda path: read_llama_blocks(
            copy(path, folder / 'llama.safetensors'), part_shapes(8, 16), 1, torch.float32
        ),
        'tar index': tar_index,
    }
    with contextlib.suppress(ImportError, AssertionError):  # the hosts assert mmcv's version
        from mmvitlin.models.teachers.frozen_teacher import FrozenTeacher

        found['teacher'] = lambda path: FrozenTeacher('x', str(path)).prepare(10)
    with contextlib.suppress(ImportError, AssertionError):
        from mmvitlin import apis
        from mmvitlin.checkpoints.convert import convert_checkpoint

        found['converter'] = lambda path: convert_checkpoint('l2vit', str(path))
        name = 'l2vit-micro_1xb64_digits'
        apis.get_model(name, device='cpu')  # raises where mmpretrain is not installed
        found['get_model'] = lambda path: apis.get_model(name, str(path), device='cpu')
        inferencer = apis.DetInferencer('retinanet_l2vit-micro_fpn_digit-scenes', device='cpu')

        def dense(path):
            inferencer._weights = str(path)
            inferencer._load_weights_to_model(inferencer.model, None, inferencer.cfg)

        found['dense inferencer'] = dense
    return found


def main(folder):
    log, mark = folder / 'log', folder / 'pwned'
    done = log.read_text().splitlines() if log.exists() else []
    tried = {line.rpartition('\t')[0] for line in done}
    files = ways(mark)
    file = folder / 'evil.pth'
    with log.open('a', buffering=1) as out:
        for door, enter in doors(folder).items():
            for way, content in files.items():
                if f'{door}\t{way}' in tried:
                    continue
                file.write_bytes(content)
                out.write(f'{door}\t{way}\tstarted\n')  # stays the last line if this crashes
                try:
                    enter(file)
                    said = 'loaded as data'
                except (ValueError, ImportError) as error:
                    said = 'refused' if '\n' not in str(error) else 'more than a line'
                except Exception as error:
                    said = f'{type(error).__name__}: {str(error).splitlines()[:1]}'
                if mark.exists() or 'antigravity' in sys.modules:
                    said = 'EXECUTED'
                    sys.modules.pop('antigravity', None)
                    mark.rmdir() if mark.is_dir() else mark.unlink(missing_ok=True)
                out.write(f'{door}\t{way}\t{said}\n')


if __name__ == '__main__':
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    main(Path(sys.argv[1]))
