"""Renaming of weights, shared by the converters of all originals."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from mmvitlin.errors import CheckpointError

# (pattern at the start of a name, replacement); the first that matches wins.
Renames = Sequence[tuple[str, str]]


def rename_weights(
    state_dict: Mapping[str, Tensor], renames: Renames, system: str
) -> dict[str, Tensor]:
    """Rename the weights of an original classifier to those of mmpretrain's ImageClassifier.

    Args:
        state_dict: the original's names -> tensors; one that has our names already stays as it is.
        renames: the key map.
        system: name of the original, for the error.

    Returns:
        Our names ('backbone.' and 'head.fc.') -> the same tensors.

    Raises:
        CheckpointError: names that no checkpoint of the original's classifier has.
    """
    if any(name.startswith('backbone.') for name in state_dict):
        return dict(state_dict)
    return rename_all(state_dict, renames, f'{system} classifier')


def rename_all(
    state_dict: Mapping[str, Tensor], renames: Renames, system: str
) -> dict[str, Tensor]:
    """Rename weights as `rename_weights`, whatever their names are.

    Raises:
        CheckpointError: names that the key map does not have.
    """
    renamed = {name: _rename(name, renames) for name in state_dict}
    unknown = [name for name, ours in renamed.items() if ours is None]
    if unknown:
        raise CheckpointError(
            f'{len(unknown)} of {len(renamed)} names are not those of the original {system}, '
            f'such as {", ".join(unknown[:3])}'
        )
    return {ours: state_dict[name] for name, ours in renamed.items() if ours is not None}


def _rename(name: str, renames: Renames) -> str | None:
    for pattern, replacement in renames:
        renamed, matches = re.subn(rf'^{pattern}', replacement, name)
        if matches:
            return renamed
    return None
