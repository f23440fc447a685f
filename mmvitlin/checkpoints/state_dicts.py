"""The weights in a checkpoint, and how they differ from a model's."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.errors import CheckpointError

EXAMPLES = 3  # names of each kind in an error


def extract_state_dict(
    loaded: Any, source: str, keys: Sequence[str] = ('state_dict',)
) -> dict[str, Tensor]:
    """Find the weights in the content of a checkpoint file.

    Args:
        loaded: the content of the file.
        source: the file, for the error.
        keys: keys that the weights may be under, of which the first that exists is used. A file
            with none of them is read as a bare state dict.

    Returns:
        Names without the 'module.' of a data parallel wrapper -> tensors.

    Raises:
        CheckpointError: there are no weights, or some values are not tensors.
    """
    found = loaded
    if isinstance(loaded, Mapping):
        found = next((loaded[key] for key in keys if key in loaded), loaded)
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        content = f'the keys {list(found)[:8]}' if isinstance(found, Mapping) else 'no dict'
        raise CheckpointError(
            f'{source} holds {content}, and a state dict was expected, names -> tensors, bare or '
            f'under {" or ".join(map(repr, keys))}'
        )
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.is_meta:
            kind = 'a meta tensor' if isinstance(value, Tensor) else f'a value of {type(value)}'
            raise CheckpointError(
                f'{source} holds {kind} under {name!r}, and tensors with values were expected: '
                'have it written as torch.save(model.state_dict(), ...) does'
            )
    return {name.removeprefix('module.'): value for name, value in found.items()}


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Compare names and shapes of weights with a model's.

    Returns:
        'missing', 'unexpected' and 'mismatched' -> sorted names; only the kinds that occur.
    """
    names = {
        'missing': expected.keys() - found.keys(),
        'unexpected': found.keys() - expected.keys(),
        'mismatched': {
            name
            for name in expected.keys() & found.keys()
            if getattr(found[name], 'shape', ()) != expected[name].shape
        },
    }
    return {kind: sorted(differing) for kind, differing in names.items() if differing}


def load_and_compare(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Load `weights` into `module`, and return the differences.

    Weights that the module renames or resizes on loading do not count as different.

    Returns:
        As `compare`: empty if every weight was loaded.

    Raises:
        CheckpointError: torch cannot load a weight for another reason than its shape.
    """
    expected = module.state_dict()
    try:
        fit = module.load_state_dict(dict(weights), strict=False)
    except RuntimeError as error:
        differences = compare(weights, expected)
        if 'mismatched' not in differences:
            lines = [line.strip() for line in str(error).splitlines()]
            raise CheckpointError(f'weights cannot be loaded: {lines[-1]}') from error
        return differences
    names = {'missing': fit.missing_keys, 'unexpected': fit.unexpected_keys}
    return {kind: differing for kind, differing in names.items() if differing}


def load_whole(model: nn.Module, checkpoint: str) -> Any:
    """Load a checkpoint into a model, strictly and safely.

    Args:
        model: gets the weights.
        checkpoint: as for `load_checkpoint`.

    Returns:
        The content of the file, weights included.

    Raises:
        CheckpointError: the file is not a safe, whole checkpoint; or a weight is missing,
            unexpected or mismatched.
    """
    loaded = load_checkpoint(checkpoint)
    differences = load_and_compare(model, extract_state_dict(loaded, checkpoint))
    if differences:
        count = len(model.state_dict())
        raise CheckpointError(
            f'{checkpoint} is not a checkpoint of this config: of {count} weights '
            f'{describe(differences)}. Check that the two belong together.'
        )
    return loaded


def describe(differences: Mapping[str, Sequence[str]]) -> str:
    """Describe the number of weights of each kind of difference, with a few names."""
    return '; '.join(
        f'{len(names)} {kind}, such as {", ".join(names[:EXAMPLES])}'
        for kind, names in differences.items()
    )
