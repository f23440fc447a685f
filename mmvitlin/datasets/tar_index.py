"""Index of the members of a tar file, which is built once and kept in a file."""

import fcntl
import hashlib
import logging
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from mmengine.logging import print_log
from mmengine.utils import ProgressBar

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.datasets.tar_backend import TarError

FORMAT = 2  # of the index file; an index of another format is built again
BLOCK = 512  # bytes: the unit of tar files
PIECE = 2**20  # bytes read at once after the end of an archive
DAMAGED = 'copy or download it again'
# First bytes of gzip, bzip2, xz and zstd files.
COMPRESSED = (b'\x1f\x8b', b'BZh', b'\xfd7zXZ\x00', b'\x28\xb5\x2f\xfd')


class TarIndex(NamedTuple):
    """The members of a tar file, in its order; the names of folders end in '/'."""

    names: list[str]
    offsets: np.ndarray  # of each member's bytes in the file, int64
    sizes: np.ndarray  # in bytes, int64


def read_tar_index(tar: Path, folder: Path | None = None) -> TarIndex:
    """Read the index of a tar file, or build and write it.

    A member NAME.tar is indexed as well: its members are NAME/MEMBER, with their offsets in the
    outer file. One process builds the index, and others wait for it. If the index cannot be
    written, a warning is logged and every process builds its own.

    Args:
        tar: the file, which is not compressed.
        folder: the folder of the index; None for that of the tar file.

    Raises:
        TarError: the file is not a tar, is cut off (the message names the member), has bytes other
            than zeros after its end mark, or contains links or absolute names.
        OSError: it cannot be read.
    """
    # A folder can have indices of several tar files with the same name.
    which = '' if folder is None else f'.{hashlib.sha256(bytes(tar.resolve())).hexdigest()[:16]}'
    kept = (folder or tar.parent) / f'{tar.name}{which}.index.npz'
    with tar.open('rb') as file, _locked(file):
        status = os.fstat(file.fileno())
        stamp = np.array([FORMAT, status.st_size, status.st_mtime_ns])
        index = _read(kept, stamp)
        if index is None:
            index = _scan(file, tar)
            try:
                _write(kept, index, stamp)
            except OSError as error:
                print_log(
                    f'The index of {tar} cannot be kept in {kept.parent} ({error.strerror}): every '
                    'process makes its own at every start. Give an index_dir that can be written',
                    'current',
                    level=logging.WARNING,
                )
        return index


def _scan(file: BinaryIO, tar: Path) -> TarIndex:
    """Read all headers, with a progress bar over the bytes of the file."""
    size = os.fstat(file.fileno()).st_size
    if file.read(len(max(COMPRESSED, key=len))).startswith(COMPRESSED):
        raise TarError(f'{tar} is compressed, and members are read by their place: decompress it')
    print(f'Indexing {tar}: MB', flush=True)
    total = max(size // 10**6, 1)
    bar = ProgressBar(total, file=sys.stdout)

    def report(offset: int) -> None:
        step = offset * 100 // size * total // 100 - bar.completed  # once per hundredth
        if step > 0:
            bar.update(step)

    found = list(_members(file, tar, '', 0, size, report))
    report(size)
    print(flush=True)
    names, offsets, sizes = zip(*found) if found else ((), (), ())
    return TarIndex(list(names), np.array(offsets, np.int64), np.array(sizes, np.int64))


def _members(
    file: BinaryIO, tar: Path, prefix: str, start: int, end: int, report: Callable[[int], None]
) -> Iterator[tuple[str, int, int]]:
    """Iterate over name, offset and size of each member between `start` and `end` of `file`."""
    last = f'its beginning, {prefix}' if prefix else 'its beginning'
    file.seek(start)
    try:
        # Offsets count from the start of the file, also for an archive inside of it.
        archive = tarfile.TarFile(fileobj=file, mode='r')
        while (member := archive.next()) is not None:
            # Otherwise it would keep a million members. The stubs of tarfile lack the attribute.
            archive.members = []  # type: ignore[attr-defined]
            name = prefix + member.name.removeprefix('./')
            if member.name.startswith('/'):
                raise TarError(
                    f'{name!r} in {tar} is an absolute name: pack with names that begin with a '
                    'folder, as tar -C FOLDER . does'
                )
            if member.size < 0:
                raise TarError(f'{name} in {tar} has a size of {member.size}: {DAMAGED}')
            if member.issparse():
                raise TarError(f'{name} in {tar} is stored sparsely: pack without tar --sparse')
            if member.offset_data + member.size > end:
                raise TarError(_cut_off(tar, f'in {name}'))
            if member.islnk() or member.issym():
                raise TarError(
                    f'{name} in {tar} is a link: pack with tar --dereference --hard-dereference'
                )
            if member.isdir():
                yield f'{name}/', 0, 0
            elif member.isreg() and name.endswith('.tar'):
                folder = f'{name.removesuffix(".tar")}/'
                yield folder, 0, 0
                inner_end = member.offset_data + member.size
                yield from _members(file, tar, folder, member.offset_data, inner_end, report)
            elif member.isreg():
                yield name, member.offset_data, member.size
            last = name
            report(member.offset_data + member.size)
    except tarfile.TarError as error:
        raise TarError(f'{_cut_off(tar, f"after {last}")} ({error})') from error
    except OSError as error:  # a header can point before the beginning of the file
        raise TarError(f'{_cut_off(tar, f"after {last}")} ({error})') from error
    if archive.offset + BLOCK > end:
        raise TarError(_cut_off(tar, f'after {last}'))
    unread = _count_unread(file, archive.offset, end)
    if unread:
        raise TarError(
            f'{tar} has an end mark after {last}, and {unread} bytes that were not read after '
            f'it: {DAMAGED}. Tars that were joined by cat are joined by tar --concatenate'
        )


def _count_unread(file: BinaryIO, start: int, end: int) -> int:
    """Count the bytes from the first one that is not zero: an archive ends with zeros alone."""
    file.seek(start)
    while start < end:
        piece = file.read(min(PIECE, end - start))
        if not piece:
            break
        rest = piece.lstrip(b'\0')
        if rest:
            return end - start - (len(piece) - len(rest))
        start += len(piece)
    return 0


def _cut_off(tar: Path, where: str) -> str:
    return f'{tar} was cut off {where}, or is damaged there: {DAMAGED}'


def _read(path: Path, stamp: np.ndarray) -> TarIndex | None:
    """Read the index at `path`; None if it is damaged or the tar file has changed since."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if not np.array_equal(kept['stamp'], stamp):
                return None
            names = bytes(kept['names']).decode(errors='surrogateescape').split('\0')
            index = TarIndex(names, kept['offsets'], kept['sizes'])
            return index if len(names) == len(index.offsets) == len(index.sizes) else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # numpy, on other files
        return None


def _write(path: Path, index: TarIndex, stamp: np.ndarray) -> None:
    """Write the index with the stamp of the tar file."""
    names = '\0'.join(index.names).encode(errors='surrogateescape')
    with atomic_write(path, sync=False) as partial, partial.open('wb') as file:
        np.savez(
            file,
            stamp=stamp,
            names=np.frombuffer(names, np.uint8),
            offsets=index.offsets,
            sizes=index.sizes,
        )


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Hold an exclusive lock on a file, if its file system has locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
