"""A classifier of fewer classes from one of more: each new class takes an old one's row.

ImageNet-1k's classes lie among ImageNet-22k's, so a checkpoint of 21,841 classes starts the
fine-tuning on 1000 with a head that knows them. Which row is whose depends on how both data sets
were numbered: a class-index file says it, line i holding the old index of new class i.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from mmvitlin.errors import CheckpointError

CLASSES = 1000  # of ImageNet-1k


def read_class_index(path: str | Path, num_old: int) -> list[int]:
    """Read a class-index file.

    Args:
        path: a text file of 1000 lines, on each an integer from 0 to `num_old` - 1. Where there is
            a PATH.sha256 beside it, as `sha256sum PATH > PATH.sha256` writes, it is checked.
        num_old: classes of the checkpoint.

    Raises:
        CheckpointError: no such file, one that is not what its checksum says, another number of
            lines, or, with its number, a line that holds no integer or one out of range.
    """
    file = Path(path).expanduser()
    noted = file.with_name(f'{file.name}.sha256')
    try:
        content = file.read_bytes()
        sums = noted.read_text().split()[:1] if noted.is_file() else None
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f'the class-index file {path} cannot be read: {error}') from error
    if sums is not None and sums != [hashlib.sha256(content).hexdigest()]:
        raise CheckpointError(f'{path} is not what {noted.name} says: one of them was damaged')
    if len(lines) != CLASSES:
        raise CheckpointError(
            f'{path} has {len(lines)} lines, and {CLASSES} were expected: one for each new class'
        )
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip().isdecimal():
            raise CheckpointError(f'{path}, line {number}: {line!r} is not an index of a class')
        rows.append(int(line))
        if rows[-1] >= num_old:
            raise CheckpointError(
                f'{path}, line {number}: {rows[-1]} is out of range, the checkpoint has classes '
                f'0 to {num_old - 1}'
            )
    return rows


def find_duplicates(rows: Sequence[int]) -> dict[int, list[int]]:
    """Find old classes that several new ones take: old index -> line numbers of the file."""
    return {
        row: [number for number, other in enumerate(rows, start=1) if other == row]
        for row, count in Counter(rows).items()
        if count > 1
    }


def select_head_rows(state_dict: dict[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """Give `state_dict` a head with `rows` of its own; every weight under 'head.' is by class."""
    return {
        name: value[list(rows)] if name.startswith('head.') else value
        for name, value in state_dict.items()
    }
