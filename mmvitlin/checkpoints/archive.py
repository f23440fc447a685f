"""The zip archives that torch.save writes, each record checked against its checksum.

An archive NAME/ holds the pickle NAME/data.pkl and the bytes of each storage in NAME/data/KEY, none
of them compressed, with a CRC-32 of each record in the zip's directory. torch.load does not compare
these checksums; here a record that differs from its checksum is an error.
"""

import mmap
import sys
import zipfile
import zlib
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmvitlin.checkpoints.inert_pickle import (
    PARAMETER,
    Builder,
    Storage,
    read_pickle,
    read_placement,
)

BinaryFile = BufferedReader | BytesIO  # a file opened for reading, or the same in memory
PIECE_BYTES = 2**24  # read at once
LOCAL_HEADER = 30  # bytes of a record's header, before its name and its extra field
ENCRYPTED = 0x1  # flag of a record


class DamagedError(Exception):
    """Damage of an archive."""


class Record(NamedTuple):
    """Record of an archive, as a range of bytes in the file."""

    name: str
    offset: int
    size: int
    crc: int | None  # None where the writer left all checksums out


class Archive:
    """The records of an archive of torch.save.

    Args:
        file: the archive, open for reading.

    Raises:
        DamagedError: it is no such archive, or not whole.
    """

    def __init__(self, file: BinaryFile):
        self.file = file
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except zipfile.BadZipFile as error:
            raise DamagedError(str(error)) from error
        end = file.seek(0, 2)
        # torch.serialization.set_crc32_options(False) writes zeros for all of them.
        checked = any(member.CRC for member in members)
        self.records: dict[str, Record] = {}
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & ENCRYPTED:
                raise DamagedError(f'{member.filename} is compressed or encrypted')
            offset = self._find_bytes(member)
            if offset + member.file_size > end or member.file_size != member.compress_size:
                raise DamagedError(f'{member.filename} does not lie within the file')
            name = member.filename.partition('/')[2]
            if name in self.records:
                raise DamagedError(f'{member.filename} is there twice')
            crc = member.CRC if checked else None
            self.records[name] = Record(member.filename, offset, member.file_size, crc)
        if sum(record.size for record in self.records.values()) > end:
            raise DamagedError('its records overlap')
        if 'byteorder' in self.records and self.read('byteorder') != sys.byteorder.encode():
            raise DamagedError('it was written on a machine of another byte order')

    def _find_bytes(self, member: zipfile.ZipInfo) -> int:
        self.file.seek(member.header_offset)
        header = self.file.read(LOCAL_HEADER)
        if len(header) < LOCAL_HEADER or not header.startswith(b'PK\x03\x04'):
            raise DamagedError(f'{member.filename} has no header')
        lengths = (int.from_bytes(header[at : at + 2], 'little') for at in (26, 28))
        return member.header_offset + LOCAL_HEADER + sum(lengths)

    def find(self, name: str) -> Record:
        """Find a record by its name below the archive's folder."""
        if name not in self.records:
            raise DamagedError(f'{name} is missing in it')
        return self.records[name]

    def read(self, name: str) -> bytes:
        """Read a record and check it."""
        content = bytearray(self.find(name).size)
        self.read_into(name, memoryview(content))
        return bytes(content)

    def read_into(self, name: str, target: memoryview | None) -> None:
        """Read a record into `target`, bytes (size,), and check it; None only checks it."""
        record = self.find(name)
        self.file.seek(record.offset)
        buffer = memoryview(bytearray(min(PIECE_BYTES, record.size))) if target is None else target
        crc = done = 0
        while done < record.size:
            place = 0 if target is None else done
            piece = buffer[place : place + min(PIECE_BYTES, record.size - done)]
            count = self.file.readinto(piece)
            if not count:
                break
            crc, done = zlib.crc32(piece[:count], crc), done + count
        if record.crc is not None and crc != record.crc:
            raise DamagedError(f'{record.name} does not match its checksum')


def load_archive(file: BinaryFile, device: torch.device, map_file: bool = False) -> Any:
    """Load a file of torch.save without running code, and check the records that are read.

    Args:
        file: the archive, open for reading.
        device: of the tensors.
        map_file: map the tensors' bytes without reading or checking them, for files of many
            gigabytes; `check_tensor` checks one tensor.

    Raises:
        DamagedError: the archive is not whole, or a record differs from its checksum.
        RefusedError: it holds more than tensors and plain data.
        Exception: any, from a damaged pickle.
    """
    archive = Archive(file)
    recorded = read_pickle(archive.read('data.pkl'))
    if map_file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def read_storage(storage: Storage) -> Tensor:
        name = f'data/{storage.key}'
        record = archive.find(name)
        if record.size == 0:
            return torch.empty(0, dtype=torch.uint8, device=device)
        if map_file:
            content = torch.frombuffer(
                mapped, dtype=torch.uint8, count=record.size, offset=record.offset
            )
        else:
            content = torch.empty(record.size, dtype=torch.uint8, device='cpu')
            archive.read_into(name, content.numpy().data)
        return content.to(device)

    return Builder(read_storage).build(recorded)


def check_tensor(path: Path, name: str) -> None:
    """Check the bytes of one tensor of a file of names -> tensors.

    Raises:
        DamagedError: they differ from the checksum.
    """
    with path.open('rb') as file:
        archive = Archive(file)
        recorded = read_pickle(archive.read('data.pkl'))
        tensors = recorded if isinstance(recorded, dict) else dict(recorded.pairs)
        found = tensors[name]
        placement = read_placement(found.args[0] if type(found) is PARAMETER else found)
        # The place of the bytes is known for plain tensors and parameters only.
        names = [f'data/{placement[0].key}'] if placement else archive.records
        for record in names:
            archive.read_into(record, None)
