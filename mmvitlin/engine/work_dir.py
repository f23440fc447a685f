"""Work directory of a training: locked by one run at a time, and never overwritten by accident."""

import logging
import os
import re
import shutil
import socket
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mmengine.config import Config
from mmengine.logging import print_log

from mmvitlin.checkpoints.atomic_write import SUFFIX
from mmvitlin.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # typed as a module

LOCK = '.lock'
POINTER = 'last_checkpoint'
BY_EPOCH = re.compile(r'epoch_(\d+)(?:_iter_(\d+))?\.pth')
BY_ITER = re.compile(r'iter_(\d+)()\.pth')
_held: dict[str, IO] = {}  # work directory -> the open file of its lock, while this process lives


def prepare_work_dir(cfg: Config, overwrite: bool, writes: bool) -> None:
    """Create and lock the work directory of a training.

    Args:
        cfg: has `work_dir` and, for a training to go on, `resume`.
        overwrite: whether a new training removes the checkpoints of an old one.
        writes: whether this process locks and removes, which one process of a run does.

    Raises:
        ConfigError: the directory cannot be written, another run holds its lock, or it has the
            checkpoints of another training and `overwrite` is False.
    """
    folder = Path(cfg.work_dir)
    check_writable(folder)
    if writes:
        hold(folder)
    saved = [path for _, path in numbered(cfg)]
    if saved and not cfg.get('resume') and not overwrite:
        raise ConfigError(
            f'{saved[0].parent} holds checkpoints of another training, such as {saved[0].name}: '
            'go on with it by --resume, remove them by --overwrite, or give another --work-dir'
        )
    if not writes:
        return
    for path in {folder, checkpoint_folder(cfg)}:
        for partial in path.glob(f'*{SUFFIX}'):  # its writer had the lock, and has ended
            if partial.name.startswith((POINTER, 'epoch_', 'iter_', 'best_')):
                partial.unlink(missing_ok=True)
    if overwrite and not cfg.get('resume'):
        _remove_training(cfg, saved)


def check_writable(folder: Path) -> None:
    """Create a folder, and a file in it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open('a'):
            pass
    except OSError as error:
        raise ConfigError(
            f'the work directory {folder} cannot be written ({error.strerror}): give another '
            '--work-dir'
        ) from error


def hold(folder: Path) -> None:
    """Lock a folder until this process ends, when the kernel releases the lock.

    File systems without locks, such as some NFS, are not locked.

    Raises:
        ConfigError: another process holds it.
    """
    key = str(folder.resolve())
    if fcntl is None or key in _held:
        return
    # lockf and not flock: loader workers, which can outlive a killed run, would inherit a flock.
    file = (folder / LOCK).open('r+')
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        owner = file.read().strip() or 'another process'
        file.close()
        raise ConfigError(
            f'another run is training in {folder} ({owner}): wait for it or end it, or give '
            'another --work-dir'
        ) from None
    except OSError as error:
        print_log(f'{folder} is not locked against other runs ({error.strerror})', 'current')
    else:
        file.truncate()
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
    _held[key] = file


def checkpoint_folder(cfg: Config) -> Path:
    """Return the folder that the config's checkpoint hook saves in."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if not hook.get('out_dir') or '://' in str(hook['out_dir']):
        return Path(cfg.work_dir)
    return Path(hook['out_dir']) / Path(cfg.work_dir).resolve().name


def numbered(cfg: Config) -> list[tuple[tuple[int, ...], Path]]:
    """List the checkpoints of a training by number, the newest first."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    by_epoch = hook.get('by_epoch', True)
    found = []
    folder = checkpoint_folder(cfg)
    for path in folder.iterdir() if folder.is_dir() else ():
        for pattern, is_ours in ((BY_EPOCH, by_epoch), (BY_ITER, not by_epoch)):
            if match := pattern.fullmatch(path.name):
                found.append(((is_ours, *(int(number or 0) for number in match.groups())), path))
    return sorted(found, reverse=True)


def find_newest(cfg: Config) -> str | None:
    """Find the newest whole checkpoint, by `last_checkpoint` or else by number.

    Damaged checkpoints are logged and skipped.

    Raises:
        ConfigError: there are checkpoints, and none of them is whole.
    """
    candidates = [*_pointed_at(Path(cfg.work_dir)), *(path for _, path in numbered(cfg))]
    damaged = {}
    for path in dict.fromkeys(candidates):
        reason = find_damage(path)
        if reason is None:
            return str(path)
        damaged[path.name] = reason
        print_log(f'{path} is damaged ({reason}) and skipped', 'current', logging.WARNING)
    if damaged:
        listed = ', '.join(f'{name} ({reason})' for name, reason in damaged.items())
        raise ConfigError(
            f'no checkpoint in {cfg.work_dir} is whole: {listed}; restore one, or begin again by '
            '--overwrite'
        )
    return None


def find_damage(path: Path) -> str | None:
    """Compare a checkpoint with its checksums.

    Returns:
        The damage; None if there is none, or if the file is a pickle, which has no checksum.
    """
    try:
        with path.open('rb') as file:
            start = file.read(1)
        if not start:
            return 'it is empty'
        if start == b'\x80':
            return None
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
        return record and f'the checksum of {record} is wrong'
    except zipfile.BadZipFile:
        return 'it is cut off or no checkpoint'
    except (OSError, EOFError, zlib.error, NotImplementedError) as error:
        return str(error)


def _pointed_at(folder: Path) -> Iterator[Path]:
    """Yield the checkpoint of `last_checkpoint`: by name in `folder`, or else by its path."""
    pointer = folder / POINTER
    if not os.path.lexists(pointer):
        return
    try:
        text = os.fsdecode(pointer.read_bytes()).strip()
        written = Path(text)
        for path in (folder / written.name, written):
            if text and path.is_file():
                yield path
                return
        reason = f'it names {text[:200]!r}, which is no file' if text else 'it is empty'
    except (OSError, ValueError) as error:  # the pointer is a folder, or has bytes that are no path
        reason = getattr(error, 'strerror', None) or str(error)
    print_log(f'{pointer} is skipped ({reason}): looking for checkpoints by name', 'current', 30)


def _remove_training(cfg: Config, saved: list[Path]) -> None:
    """Remove the checkpoints of an old training, except the one in `load_from`."""
    folder = checkpoint_folder(cfg)
    kept = cfg.get('load_from') and Path(cfg.load_from).expanduser().resolve()
    best = folder.glob('best_*.pth') if folder.is_dir() else ()
    for path in (*saved, *best, Path(cfg.work_dir) / POINTER):
        if path.resolve() == kept:
            continue
        if path.is_dir():  # DeepSpeed's
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if saved:
        print_log(f'--overwrite: removed {len(saved)} checkpoints from {folder}', 'current')
