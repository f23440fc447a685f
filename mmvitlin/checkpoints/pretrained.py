"""Starting a backbone from a checkpoint, with a report of what was loaded and what was not.

`init_cfg=dict(type='Pretrained', ...)` of our backbones runs `read_pretrained`, then
`load_pretrained`. In between a backbone can adapt the weights.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import print_log
from torch import Tensor, nn

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import compare, describe, extract_state_dict
from mmvitlin.errors import CheckpointError

# Smallest share of a backbone's tensors that its checkpoint must have. Checkpoints of other models
# fit in part: a Swin's in the last norm, an unconverted one of the original L2ViT in 57% of our
# tensors.
LEAST_SHARE = 0.9


def read_pretrained(
    checkpoint: str, prefix: str | None = None, map_location: Any = 'cpu'
) -> dict[str, Tensor]:
    """Read the weights below `prefix` from a checkpoint, safely.

    Args:
        checkpoint: a file or a URL.
        prefix: start of the backbone's names, such as 'backbone.' in a classifier's checkpoint;
            None for a file of the backbone alone.
        map_location: as in `torch.load`.

    Returns:
        Names without the prefix -> tensors.

    Raises:
        CheckpointError: the file is not a safe, whole checkpoint, or has no such names.
    """
    loaded = load_checkpoint(checkpoint, map_location)
    weights = extract_state_dict(loaded, checkpoint, ('state_dict', 'model'))
    if prefix is None:
        return weights
    prefix = prefix if prefix.endswith('.') else f'{prefix}.'
    below = {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}
    if not below:
        tops = sorted({f'{name.partition(".")[0]}.' for name in weights})
        raise CheckpointError(
            f'{checkpoint} has no weights under prefix={prefix!r}; its names start with '
            f'{", ".join(tops[:8])}: give one of these, or leave prefix out for a backbone alone'
        )
    return below


def load_pretrained(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    new: Sequence[str] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Load the matching `weights` into `module`; log their number and every name that differs.

    Args:
        module: gets the weights.
        weights: names -> tensors.
        source: where the weights come from, for the messages.
        new: submodules and parameters that `source` need not have. Their missing weights keep their
            initial values, are listed, and are not counted.
        shapes: shapes in `source` of the weights that have been resized since.

    Raises:
        CheckpointError: less than 90% of the module's tensors are there.
    """
    expected, name = module.state_dict(), type(module).__name__
    differences = compare(weights, expected)
    missing = differences.pop('missing', [])
    fresh = [n for n in missing if n in new or n.startswith(tuple(f'{part}.' for part in new))]
    lost = [n for n in missing if n not in fresh]
    if lost:
        differences['missing'] = lost
    reshaped = differences.get('mismatched', [])
    total = len(expected) - len(fresh)
    loaded = total - len(lost) - len(reshaped)
    if loaded < LEAST_SHARE * total:
        hint = "; its backbone's names start with 'backbone.': give prefix='backbone.'"
        raise CheckpointError(
            f'{source} is not a checkpoint of this {name}: it matches {loaded} of {total} tensors '
            f'({describe(differences)})'
            + (hint if any(n.startswith('backbone.') for n in weights) else '')
            + '. Take one of the same model and arch; convert an original one by '
            'tools/convert_checkpoint.py'
        )
    fitting = {n: weights[n] for n in expected.keys() & weights.keys() if n not in reshaped}
    module.load_state_dict(fitting, strict=False)

    lines = [f'{name}: {loaded} of {total} tensors ({100 * loaded // total}%) loaded from {source}']
    if fresh:
        lines.append(f'new, at their initial values: {", ".join(fresh)}')
    changes = [
        f'{n} {old} to {_shape(weights[n])}'
        for n, old in (shapes or {}).items()
        if n in fitting and old != _shape(weights[n])
    ]
    if changes:
        lines.append(f'resized: {", ".join(changes)}')
    for kind, names in differences.items():
        if kind == 'mismatched':
            names = [f'{n} {_shape(weights[n])} for {_shape(expected[n])}' for n in names]
        lines.append(f'{kind}: {", ".join(names)}')
    level = logging.WARNING if differences else logging.INFO
    print_log('\n  '.join(lines), 'current', level)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, 'shape', ()))
