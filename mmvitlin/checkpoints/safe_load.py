"""Loading checkpoints without ever running code that is in them.

A pickle can call any function. torch's `weights_only=True` builds tensors and plain data alone, and
everything here goes through it. Checkpoints of runners without our SafeCheckpointHook also hold
MMEngine's HistoryBuffer and numpy data, those of the originals' training scripts their command line
as an argparse.Namespace; those few names are allowed, nothing else is.
"""

import pickle
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

OLD_TORCH = (
    ''
    if hasattr(torch.serialization, 'safe_globals')
    else " With torch 2.5 or newer, MMEngine's own and the originals' training checkpoints load."
)
DAMAGE = ('Unsupported operand', 'invalid load key', 'truncated')  # what torch says of no pickle
BUFFER_METHODS = ('min', 'max', 'mean', 'current')  # what a pickled HistoryBuffer looks up by name


class CheckpointError(ValueError):
    """A file that is no checkpoint to trust; the message says what is wrong and what to do."""


class CommandLine:
    """What an argparse.Namespace in a checkpoint is read as: attributes, and no code."""


def load_checkpoint(location: str | Path, map_location: Any = 'cpu') -> Any:
    """Load the checkpoint at a path or an http(s) URL: `load_from_file` or `load_from_url`."""
    is_url = str(location).startswith(('http://', 'https://'))
    return (load_from_url if is_url else load_from_file)(location, map_location)


def load_from_file(path: str | Path, map_location: Any = 'cpu') -> Any:
    """Load the checkpoint at `path` with `weights_only=True`.

    Args:
        path: a local file.
        map_location: as in `torch.load`.

    Raises:
        CheckpointError: the file is missing or damaged, or holds more than tensors and plain data.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'there is no checkpoint at {path}; check the path')
    try:
        with _training_types_allowed():
            return torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error)
        if isinstance(error, pickle.UnpicklingError) and not any(sign in reason for sign in DAMAGE):
            refused = next((line for line in reason.splitlines() if 'GLOBAL' in line), reason)
            raise CheckpointError(
                f'{path} was not loaded: it holds more than tensors and plain data and could run '
                f'code ({refused.strip()}). Ask its source for a bare state dict.{OLD_TORCH}'
            ) from error
        reason = next(iter(reason.splitlines()), type(error).__name__)
        raise CheckpointError(
            f'{path} is not a whole checkpoint ({reason}): copy or download it again, or use '
            'an earlier one'
        ) from error


def load_from_url(url: str, map_location: Any = 'cpu') -> Any:
    """Download `url` into torch hub's cache, once for all processes of a machine, and load it."""
    rank, _ = get_dist_info()
    if rank == 0:
        path = _download(url)
    barrier()
    if rank > 0:
        path = _download(url)
    return load_from_file(path, map_location)


def register_safe_loaders() -> None:
    """Make every checkpoint that MMEngine loads in this process go through the functions above."""
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(['http://', 'https://'], load_from_url, force=True)


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(url).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path))  # beside the file, renamed when whole
    return path


def _training_types_allowed() -> AbstractContextManager:
    if OLD_TORCH:  # it has no such list
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
