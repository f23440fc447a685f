"""Heads with fewer classes than the checkpoint: each new class takes the row of an old class.

ImageNet-1k's classes are among ImageNet-22k's, so that fine-tuning on 1000 classes can start from
the head of a checkpoint with 21,841. The old index of a new class depends on how both data sets are
numbered. A class-index file gives it: line i has the old index of new class i.
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
        path: a text file of 1000 lines, on each an integer from 0 to `num_old` - 1. If PATH.sha256
            exists, as `sha256sum PATH > PATH.sha256` writes it, the file is compared with it.
        num_old: classes of the checkpoint.

    Raises:
        CheckpointError: the file cannot be read, differs from its checksum or has another number of
            lines; or a line, whose number the message gives, is not an integer in range.
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
        raise CheckpointError(f'{path} does not match {noted.name}: one of them was damaged')
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
    """Find old classes that several new classes take: old index -> line numbers of the file."""
    return {
        row: [number for number, other in enumerate(rows, start=1) if other == row]
        for row, count in Counter(rows).items()
        if count > 1
    }


def select_head_rows(state_dict: dict[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """Select `rows` of the head in a state dict; every weight under 'head.' has a row per class."""
    return {
        name: value[list(rows)] if name.startswith('head.') else value
        for name, value in state_dict.items()
    }
