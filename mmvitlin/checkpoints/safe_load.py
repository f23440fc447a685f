"""Loading checkpoints without ever running code that is in them.

A pickle can call any function. torch's `weights_only=True` builds tensors and plain data alone, and
every pickle here goes through it; a .safetensors file holds nothing else. Checkpoints of runners
without our SafeCheckpointHook also hold MMEngine's HistoryBuffer and numpy data, those of the
originals' training scripts their command line as an argparse.Namespace; those few names are
allowed, nothing else is.
"""

import pickle
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import (
    _process_mmcls_checkpoint,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from mmengine.utils import digit_version

from mmvitlin.errors import CheckpointError

# The list of allowed names takes a class under another name from torch 2.6 on.
ALLOWS_NAMES = digit_version(torch.__version__) >= digit_version('2.6')
BUFFER_METHODS = ('min', 'max', 'mean', 'current')  # what a pickled HistoryBuffer looks up by name


class CommandLine:
    """What an argparse.Namespace in a checkpoint is read as: attributes, and no code."""


def load_checkpoint(location: str | Path, map_location: Any = 'cpu') -> Any:
    """Load the checkpoint at a path or an http(s) URL: `load_from_file` or `load_from_url`."""
    is_url = str(location).startswith(('http://', 'https://'))
    return (load_from_url if is_url else load_from_file)(location, map_location)


def load_from_file(path: str | Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Load the checkpoint at `path`: a .safetensors file, or a pickle with `weights_only=True`.

    Args:
        path: a local file.
        map_location, mmap: as in `torch.load`; a .safetensors file takes a device for the first,
            and is always mapped.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain data.
        ImportError: a .safetensors file, and safetensors is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'there is no checkpoint at {path}; check the path')
    if path.suffix == '.safetensors':
        return _load_safetensors(path, map_location)
    try:
        with _training_types_allowed():
            return torch.load(str(path), map_location=map_location, weights_only=True, mmap=mmap)
    except torch.cuda.OutOfMemoryError:
        raise
    except PermissionError as error:
        raise CheckpointError(f'{path} may not be read ({error.strerror}); change that') from error
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(_explain(path, error)) from error


def _load_safetensors(path: Path, device: Any) -> dict[str, torch.Tensor]:
    try:
        return import_safetensors('safetensors.torch').load_file(path, str(device or 'cpu'))
    except import_safetensors().SafetensorError as error:
        raise CheckpointError(
            f'{path} is not a whole safetensors file ({error}); copy or download it again'
        ) from error


def import_safetensors(module: str = 'safetensors') -> ModuleType:
    """Import a module of safetensors, which only those need who have such files.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            'a .safetensors file takes the package safetensors: pip install safetensors'
        ) from error


def _explain(path: Path, error: Exception) -> str:
    """Say in a line why `path` was not loaded, and what to do."""
    said = str(error)
    if not isinstance(error, pickle.UnpicklingError) or 'truncated' in said or _is_damaged(path):
        reason = (said.rpartition('WeightsUnpickler error:')[2].strip().splitlines() or [''])[0]
        return (
            f'{path} is not a whole checkpoint ({reason or type(error).__name__}): copy or '
            'download it again, or use an earlier one'
        )
    if 'Unsupported operand' in said:
        return (
            f'{path} was not loaded: torch cannot tell whether a pickle of its protocol could run '
            'code; ask its source to write it with torch.save'
        )
    refused = next((line for line in said.splitlines() if 'GLOBAL' in line), said).strip()
    hint = ''
    if not ALLOWS_NAMES:
        hint = " With torch 2.6 or newer, MMEngine's and the originals' training checkpoints load."
    return (
        f'{path} was not loaded: it holds more than tensors and plain data and could run code '
        f'({" ".join(refused.split())}). Ask its source for a bare state dict.{hint}'
    )


def _is_damaged(path: Path) -> bool:
    """Whether a file is neither a pickle nor a zip archive whose checksums are right."""
    with path.open('rb') as file:
        if file.read(1) == b'\x80':
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except zipfile.BadZipFile:
        return True


def load_from_url(url: str, map_location: Any = 'cpu') -> Any:
    """Download `url` into torch hub's cache, rank 0 before the others, and load it.

    Raises:
        CheckpointError: it cannot be downloaded, and what `load_from_file` raises.
    """
    try:
        if get_rank() == 0:
            path = _download(url)
    finally:  # whether or not it came, the others must not wait for ever
        barrier()
    if get_rank() > 0:
        path = _download(url)
    return load_from_file(path, map_location)


def register_safe_loaders() -> None:
    """Make the checkpoints that MMEngine loads in this process go through the functions above.

    That is files, URLs, and the names of the model zoos. MMEngine reads object stores (s3 and the
    like) itself, by torch's default, which is `weights_only=True` from 2.6 on.
    """
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(['http://', 'https://'], load_from_url, force=True)
    for zoo, (prefixes, models) in ZOOS.items():
        CheckpointLoader.register_scheme(prefixes, _zoo_loader(zoo, models), force=True)


# Zoo -> the prefixes of its models' names, and what lists their URLs.
ZOOS = {
    'torchvision': (('torchvision://', 'modelzoo://'), get_torchvision_models),
    'openmmlab': (('open-mmlab://', 'openmmlab://'), get_external_models),
    'mmcls': (('mmcls://',), get_mmcls_models),
}


def _zoo_loader(zoo: str, models: Callable[[], dict[str, str]]) -> Callable:
    """A loader of names such as 'torchvision://resnet50'."""

    def load(name: str, map_location: Any = 'cpu') -> Any:
        known, key = models(), name.partition('://')[2]
        if key not in known:
            nearest = ', '.join(get_close_matches(key, known)) or 'nothing like it'
            raise CheckpointError(f'the model zoo {zoo} has no {key}; it has {nearest}')
        checkpoint = load_checkpoint(known[key], map_location)
        return _process_mmcls_checkpoint(checkpoint) if zoo == 'mmcls' else checkpoint

    load.__name__ = f'load_from_{zoo}'  # MMEngine logs what follows 'load_from_'
    return load


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))  # beside the file, renamed when whole
        except OSError as error:  # what urllib raises
            raise CheckpointError(f'{url} cannot be downloaded ({error}); check it') from error
    return path


def _training_types_allowed() -> AbstractContextManager:
    if not ALLOWS_NAMES:
        return nullcontext()
    multiarray = np.empty(0).__reduce__()[0].__module__
    core = __import__(multiarray, fromlist=['scalar'])
    names = [(HistoryBuffer, f'{HistoryBuffer.__module__}.HistoryBuffer')]
    names += [(CommandLine, 'argparse.Namespace')]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        names += [(core._reconstruct, f'{module}._reconstruct'), (core.scalar, f'{module}.scalar')]
    names += [(_buffer_method, 'builtins.getattr'), (np.ndarray, 'numpy.ndarray')]
    dtypes = {type(np.dtype(code)) for code in np.typecodes['AllInteger'] + 'efd?'}
    return torch.serialization.safe_globals([*names, np.dtype, *dtypes])


def _buffer_method(owner: Any, name: str) -> Any:
    """`getattr` for the unpickler, on HistoryBuffer's own statistics only."""
    if owner is not HistoryBuffer or name not in BUFFER_METHODS:
        raise pickle.UnpicklingError(f'Unsupported global: getattr({owner!r}, {name!r})')
    return getattr(owner, name)
