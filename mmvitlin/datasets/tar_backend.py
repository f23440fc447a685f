"""File backend of MMEngine for members of tar files: 'tar://TAR?OFFSET+SIZE/MEMBER'."""

import os
import re
from pathlib import Path

from mmengine.fileio import BaseStorageBackend, register_backend


class TarError(ValueError):
    """A tar file that is truncated or has unexpected members; the message names the member."""


def member_uri(tar: Path, member: str, offset: int, size: int) -> str:
    """Return the URI of `member`, which has `size` bytes in `tar` from `offset` on."""
    return f'tar://{tar}?{offset}+{size}/{member}'


@register_backend('mmvitlin.tar', force=True, prefixes='tar')
class TarBackend(BaseStorageBackend):
    """Backend that reads members of a tar file by offset and size; `LoadImageFromFile` uses it.

    Each read gives its position in the file, so that threads, and processes that were forked while
    the file was open, can share it.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, tuple[int, int]]] = {}

    def get(self, filepath: str) -> bytes:
        """Read a member.

        Raises:
            ValueError: `filepath` does not have the form of `member_uri`.
            TarError: the tar file ends before the member does.
        """
        # The first match counts, since the name of a member may have any characters.
        found = re.fullmatch(r'tar://(.+?)\?(\d+)\+(\d+)/(.+)', filepath, re.DOTALL)
        if not found:
            raise ValueError(f'expected tar://TAR?OFFSET+SIZE/MEMBER, got {filepath!r}')
        tar, offset, size, member = found[1], int(found[2]), int(found[3]), found[4]
        descriptor = self._descriptor(tar)
        parts, left = [], size
        while left:  # the system may return fewer bytes than requested
            part = os.pread(descriptor, left, offset + size - left)
            if not part:
                raise TarError(
                    f'{tar} was cut off: it ends {left} bytes before {member} does; copy it again'
                )
            parts.append(part)
            left -= len(part)
        return b''.join(parts)

    def _descriptor(self, tar: str) -> int:
        """Open a tar file, once unless it is replaced by another file."""
        status = Path(tar).stat()
        which = status.st_ino, status.st_mtime_ns
        opened = self._open.get(tar)
        if opened is None or opened[1] != which:
            opened = os.open(tar, os.O_RDONLY), which
            self._open[tar] = opened
        return opened[0]

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """Read a member as text."""
        return self.get(filepath).decode(encoding)
