"""Atomic writing: a killed process never leaves half a file under its final name."""

import functools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = '.partial'


@contextmanager
def atomic_write(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a partial file to write, then rename that file to `path`.

    The partial file is in the folder of `path`. Its name contains the host and the process that
    write it, so that two writers never share a file. If writing fails, the partial file is removed.
    The first time that a process writes into a folder, it removes the partial files that killed
    processes of this host left there.

    Args:
        path: the final file; its folder is created.
        sync: whether to wait until the bytes are on the disk. Without, a power cut can leave an
            empty file under the final name.

    Yields:
        The path of the partial file, which does not exist yet.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    _remove_abandoned(path.parent, host)
    partial = path.with_name(f'{path.name}.{host}.{os.getpid()}{SUFFIX}')
    try:
        yield partial
        if sync:
            with partial.open('rb') as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@functools.cache  # listing a folder for each file would take a time quadratic in their number
def _remove_abandoned(folder: Path, host: str) -> None:
    """Remove partial files in `folder` whose process on `host` has ended."""
    for partial in folder.iterdir():
        written, _, pid = partial.name.removesuffix(SUFFIX).rpartition('.')
        ours = partial.name.endswith(SUFFIX) and written.endswith(f'.{host}')
        if ours and pid.isdecimal() and not _is_running(int(pid)):
            partial.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
