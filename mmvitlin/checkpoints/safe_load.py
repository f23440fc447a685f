"""Safe loading of checkpoints: code in them never runs, and damage is detected.

A pickle can call any function. The archives of torch.save are read by `archive` and `inert_pickle`,
with every torch from 2.1 on and whatever TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD says: torch's own
unpickler is not used for two reasons. Before 2.10, crafted files can make it run code
(CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10). And it calls every name on its list of
allowed names with any arguments; training checkpoints with numpy data and MMEngine's HistoryBuffer
would need more names on that list. A .safetensors file holds tensors and text alone. Files of the
format before torch 1.6, without a checksum, go through torch.load(weights_only=True) from torch
2.10 on, and are refused before.
"""

import hashlib
import io
import json
import pickle
import zlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine import fileio
from mmengine.dist import barrier, get_rank
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from mmengine.utils import digit_version
from torch import Tensor

from mmvitlin.checkpoints import archive
from mmvitlin.checkpoints.inert_pickle import (
    RefusedError,
    UnsupportedTensorError,
    check_program,
)
from mmvitlin.compat import process_mmcls_checkpoint
from mmvitlin.errors import CheckpointError

READS_LEGACY = digit_version(torch.__version__) >= digit_version('2.10')
LEGACY_PICKLES = ('magic number', 'version', 'machine', 'content', 'keys of storages')
CHECKSUMS = 'crc32'  # the key of our checksums in the metadata of a .safetensors file


def load_checkpoint(location: str | Path, map_location: Any = 'cpu') -> Any:
    """Load a checkpoint from a file, a URL, a model zoo or a file backend.

    Args:
        location: a local file, an http(s) URL, the name of a model of a zoo, such as
            'torchvision://resnet50', or any address that MMEngine's file backends read, such as
            's3://bucket/model.pth'.
        map_location: a device; None for the CPU.

    Raises:
        CheckpointError: as `load_from_file`, or it cannot be reached.
        ImportError: a .safetensors file, and safetensors is not installed.
    """
    prefix, separator, rest = str(location).partition('://')
    if not separator:
        return load_from_file(location, map_location)
    if prefix in ('http', 'https'):
        return load_from_url(str(location), map_location)
    zoo = next((zoo for zoo, (prefixes, _) in ZOOS.items() if prefix in prefixes), None)
    if zoo is not None:
        return _load_from_zoo(zoo, rest, map_location)
    try:
        content = fileio.get(str(location))
    except Exception as error:  # each backend raises its own
        raise CheckpointError(
            f'{location} cannot be read ({type(error).__name__}: {error}); check it'
        ) from error
    return load_from_bytes(content, str(location), map_location)


def load_from_file(path: str | Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Load the checkpoint at `path`: a .safetensors file, or a file of torch.save.

    Args:
        path: a local file.
        map_location: a device; None for the CPU.
        mmap: map tensors instead of reading them; their checksums are not checked then. A
            .safetensors file is always mapped.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain data.
        ImportError: a .safetensors file, and safetensors is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'there is no checkpoint at {path}; check the path')
    device = _read_device(map_location)
    if path.suffix == '.safetensors':
        return _load_safetensors(path, device)
    try:
        with path.open('rb') as file:
            return _load_open(file, str(path), device, mmap)
    except PermissionError as error:
        raise CheckpointError(f'{path} may not be read ({error.strerror}); change that') from error


def load_from_bytes(
    content: bytes, source: str, map_location: Any = 'cpu', kind: str = 'checkpoint'
) -> Any:
    """Load the content of a file that torch.save wrote, as `load_from_file` does.

    Args:
        content: the whole file.
        source: its name, for the error.
        map_location: a device; None for the CPU.
        kind: expected content, for the error.
    """
    return _load_open(io.BytesIO(content), source, _read_device(map_location), kind=kind)


def _read_device(map_location: Any) -> torch.device:
    """Read `map_location`.

    Raises:
        CheckpointError: it is not a device of this machine.
    """
    try:
        device = torch.device('cpu' if map_location is None else map_location)
        torch.empty(0, device=device)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise CheckpointError(
            f"map_location is a device of this machine, such as 'cpu' or 'cuda:0', got "
            f'{map_location!r}'
        ) from error
    return device


def _load_open(
    file: archive.BinaryFile,
    source: str,
    device: torch.device,
    mmap: bool = False,
    kind: str = 'checkpoint',
) -> Any:
    start = file.read(4)
    is_archive, is_pickle = start == b'PK\x03\x04', start.startswith(b'\x80')
    if is_pickle and not READS_LEGACY:
        raise CheckpointError(
            f'{source} is of the format before torch 1.6, or a bare pickle, which torch '
            f'{torch.__version__} cannot read safely: take torch 2.10 or newer, or have it saved '
            'by a newer torch'
        )
    try:
        if is_pickle:
            for _ in LEGACY_PICKLES:
                if start:  # a bare pickle ends after the first
                    file.seek(-len(start), 1)
                    check_program(file)
                    start = file.read(1)
            file.seek(0)
            return torch.load(file, map_location=device, weights_only=True)
        file.seek(0)
        if is_archive:
            return archive.load_archive(file, device, mmap)
        raise archive.DamagedError('it does not begin as a file of torch.save does')
    except (torch.cuda.OutOfMemoryError, PermissionError):
        raise
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(_explain(source, error, kind)) from error


def _load_safetensors(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Load a .safetensors file, and compare it with the checksums of `save_safetensors`, if any."""
    safetensors = import_safetensors()
    try:
        weights = import_safetensors('safetensors.torch').load_file(path, str(device))
        with safetensors.safe_open(path, 'pt') as file:
            noted = (file.metadata() or {}).get(CHECKSUMS)
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f'{path} is not a whole safetensors file ({error}); copy or download it again'
        ) from error
    except MemoryError as error:
        raise CheckpointError(f'{path} asks for more memory than there is') from error
    if noted is not None and noted != _checksums(weights):
        raise CheckpointError(
            f'{path} does not match its checksums: it was damaged; copy or write it again'
        )
    return weights


def save_safetensors(
    weights: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a .safetensors file with their checksums, which loading it checks.

    Args:
        weights: names -> contiguous tensors.
        path: a file, which is not written atomically: see `atomic_write`.
        metadata: further text for the file's header.

    Raises:
        ImportError: safetensors is not installed.
    """
    metadata = {**(metadata or {}), CHECKSUMS: _checksums(weights)}
    import_safetensors('safetensors.torch').save_file(dict(weights), path, metadata)


def _checksums(weights: Mapping[str, Tensor]) -> str:
    """Compute a CRC-32 of each tensor's name, dtype, shape and bytes, as text."""
    sums = {}
    for name, value in sorted(weights.items()):
        content = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        start = zlib.crc32(f'{name} {value.dtype} {list(value.shape)}'.encode())
        sums[name] = zlib.crc32(content.data, start)
    return json.dumps(sums)


def import_safetensors(module: str = 'safetensors') -> ModuleType:
    """Import a module of safetensors, an optional package that only .safetensors files need.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            'a .safetensors file takes the package safetensors: pip install safetensors'
        ) from error


def _explain(source: str, error: Exception, kind: str = 'checkpoint') -> str:
    """Describe in one line why `source` was not loaded, and what to do."""
    said = str(error)
    if isinstance(error, UnsupportedTensorError):
        return f'{source} was not loaded: it holds {said}; have it saved as plain dense tensors'
    if isinstance(error, RefusedError):
        return _say_refused(source, said)
    of_torch = isinstance(error, pickle.UnpicklingError) and 'Weights only load failed' in said
    said = said.rpartition('WeightsUnpickler error:')[2].strip()
    if of_torch:  # torch's advice is to load without protection: it is not passed on
        listed = next((line for line in said.splitlines() if 'GLOBAL' in line), '')
        if listed:
            return _say_refused(source, listed.partition('GLOBAL ')[2].split(' was ')[0])
        if 'Unsupported operand' in said or 'reduce' in said or 'Can only' in said:
            return _say_refused(source, 'a pickle that torch.save does not write')
        said = 'no pickle of torch.save'
    reason = next(iter(said.splitlines()), '') or type(error).__name__
    return (
        f'{source} is not a whole {kind} ({reason}): copy or download it again, or use an '
        'earlier one'
    )


def _say_refused(source: str, what: str) -> str:
    return (
        f'{source} was not loaded: it holds more than tensors and plain data and could run code '
        f'({what}). Ask its source for tensors alone, as a bare state dict.'
    )


def check_tensor(path: Path, name: str) -> None:
    """Check the bytes of one tensor of an archive of names -> tensors, without the others.

    Raises:
        CheckpointError: they differ from the archive's checksum.
    """
    try:
        archive.check_tensor(path, name)
    except archive.DamagedError as error:
        raise CheckpointError(_explain(str(path), error)) from error


def load_from_url(url: str, map_location: Any = 'cpu') -> Any:
    """Download `url` into torch hub's cache, rank 0 before the others, and load it.

    Raises:
        CheckpointError: it cannot be downloaded; or as `load_from_file`.
    """
    try:
        if get_rank() == 0:
            path = _download(url)
    finally:  # after an error too, or the other ranks would wait forever
        barrier()
    if get_rank() > 0:
        path = _download(url)
    return load_from_file(path, map_location)


def register_safe_loaders() -> None:
    """Make all checkpoints that MMEngine loads in this process go through `load_checkpoint`.

    This is for the command lines in tools/, where backbones, teachers and runners of the hosts load
    files. Importing the package changes nothing in MMEngine.
    """
    CheckpointLoader.register_scheme(SCHEMES, load_from_safe, force=True)


def load_from_safe(filename: str, map_location: Any = 'cpu', **_: Any) -> Any:
    """Load by `load_checkpoint`; MMEngine logs what follows 'load_from_' in the name.

    Args:
        filename, map_location: as there.
        **_: further arguments of some of MMEngine's loaders, such as `backend`; not used.
    """
    return load_checkpoint(filename, map_location)


# The prefixes that MMEngine 0.10.7 has loaders for, as it writes them.
SCHEMES = [
    *('', 'http://', 'https://', 'pavi://', 'modelzoo://', 'torchvision://', 'open-mmlab://'),
    *('openmmlab://', 'mmcls://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'),
]
# Zoo -> the prefixes of its models' names, and the function that lists their URLs.
ZOOS: dict[str, tuple[tuple[str, ...], Callable[[], dict[str, str]]]] = {
    'torchvision': (('torchvision', 'modelzoo'), get_torchvision_models),
    'openmmlab': (('open-mmlab', 'openmmlab'), get_external_models),
    'mmcls': (('mmcls',), get_mmcls_models),
}


def _load_from_zoo(zoo: str, name: str, map_location: Any) -> Any:
    """Load a model of a zoo by its name there."""
    known = ZOOS[zoo][1]()
    if name not in known:
        nearest = ', '.join(get_close_matches(name, known)) or 'nothing like it'
        raise CheckpointError(f'the model zoo {zoo} has no {name}; it has {nearest}')
    checkpoint = load_checkpoint(known[name], map_location)
    return process_mmcls_checkpoint(checkpoint) if zoo == 'mmcls' else checkpoint


def _download(url: str) -> Path:
    # The hash of the whole URL tells files with the same name apart.
    name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{Path(urlparse(url).path).name}'
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))  # beside the file, renamed when whole
        except OSError as error:  # what urllib raises
            raise CheckpointError(f'{url} cannot be downloaded ({error}); check it') from error
    return path
