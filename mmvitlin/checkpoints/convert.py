"""Converting an original checkpoint to one that loads strictly in the classifier of its config."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmvitlin.checkpoints.converters import CONVERTERS, Converter
from mmvitlin.checkpoints.head_rows import find_duplicates, read_class_index, select_head_rows
from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import compare, describe, extract_state_dict
from mmvitlin.errors import CheckpointError
from mmvitlin.version import __version__

WEIGHTS, EMA_WEIGHTS = ('model', 'state_dict'), ('model_ema', 'state_dict_ema')
DENSE_TASKS = {
    'decode_head.': 'segmentation',
    'rpn_head.': 'detection',
    'roi_head.': 'detection',
    'bbox_head.': 'detection',
}


class Converted(NamedTuple):
    """Result of a conversion.

    Attributes:
        checkpoint: dict(meta=..., state_dict=...), tensors in the dtype that they had.
        notes: lines for the user: contents of the checkpoint, and warnings.
    """

    checkpoint: dict
    notes: tuple[str, ...]


def convert_checkpoint(
    system: str,
    source: str,
    arch: str | None = None,
    ema: bool = False,
    class_index: str | None = None,
) -> Converted:
    """Convert the checkpoint of an original classifier.

    Args:
        system: a name in `CONVERTERS`.
        source: a file or a URL: a state dict, bare or under 'model' or 'state_dict'; or a
            checkpoint of our own training, for another head or to be stripped to its weights.
        arch: refuse a checkpoint of another size than this name's; None takes any.
        ema: take the moving average, under 'model_ema'.
        class_index: a file of 1000 lines, line i the index in `source` of new class i.

    Raises:
        CheckpointError: the file cannot be loaded, or is not a classifier of the system, or the
            class index is not of its classes.
    """
    converter = CONVERTERS[system]
    weights, kind = read_weights(source, ema)
    try:
        renamed = converter.rename(weights)
        found, num_classes = check_weights(renamed, converter, arch)
    except ValueError as error:  # a backbone refuses widths and heads that do not go together
        raise CheckpointError(f'{source} is not a classifier of {system}: {error}') from None
    notes = []
    if class_index:
        rows = read_class_index(class_index, num_classes)
        for row, lines in find_duplicates(rows).items():
            notes.append(f'{class_index}: class {row} is taken by several lines: {lines}')
        renamed, num_classes = select_head_rows(renamed, rows), len(rows)
    meta = dict(
        mmvitlin_version=__version__,
        system=system,
        arch=found,
        num_classes=num_classes,
        source=f'{Path(source).name}, {kind}',
    )
    notes.append(
        f'{len(renamed)} tensors of {system}, arch {found}, {num_classes} classes, from the {kind}'
    )
    if converter.guessed and isinstance(found, dict):  # not one of the zoo, which a name stands for
        notes.append(
            f'{" and ".join(converter.guessed)} of this arch leave no trace in weights and are '
            'guesses: build the model with those that it was trained with'
        )
    return Converted(dict(meta=meta, state_dict=renamed), tuple(notes))


def read_weights(source: str, ema: bool) -> tuple[dict[str, Tensor], str]:
    """Read a classifier's weights; return them and what they are.

    Raises:
        CheckpointError: there are none, no moving average where one is asked for, or they are a
            detector's or a segmentor's.
    """
    loaded = load_checkpoint(source)
    keys = list(loaded) if isinstance(loaded, dict) else []
    averaged, plain = (next((k for k in w if k in keys), None) for w in (EMA_WEIGHTS, WEIGHTS))
    if ema and averaged is None:
        raise CheckpointError(
            f'{source} has no moving average of the weights ({" or ".join(EMA_WEIGHTS)}) among its '
            f'keys {keys[:8]}; leave --ema out'
        )
    key = averaged if ema or plain is None else plain
    weights = extract_state_dict(loaded, source, (key,) if key else WEIGHTS)
    for prefix, task in DENSE_TASKS.items():
        if any(name.startswith(prefix) for name in weights):
            raise CheckpointError(
                f'{source} is a {task} checkpoint, with weights such as {prefix}*; classifiers are '
                'converted, so give the one that its training started from'
            )
    return weights, f'weights under {key!r}' if key else 'weights of a bare state dict'


def check_weights(
    weights: dict[str, Tensor], converter: Converter, arch: str | None
) -> tuple[str | dict, int]:
    """Check that renamed weights load strictly; return their arch and number of classes.

    Raises:
        CheckpointError: they are not those of a classifier of the arch, with what differs.
    """
    read = converter.read_arch(weights)
    zoo = converter.arch_zoo()
    named = next((name for name, settings in zoo.items() if settings == read), read)
    classes = (len(value) for name, value in weights.items() if name.startswith('head.'))
    num_classes = next(classes, 1000)
    with torch.device('meta'):
        backbone: Any = converter.build_backbone(arch or named, weights)
        widths = backbone.embed_dims
        width = widths if isinstance(widths, int) else widths[-1]
        head = converter.build_head(weights, num_classes, width)
        classifier = nn.ModuleDict({'backbone': backbone, 'head': head})
    differences = compare(weights, classifier.state_dict())
    if differences:
        shapes = f'; its shapes are those of arch {named}' if arch else ''
        raise CheckpointError(f'against arch {arch or named}, {describe(differences)}{shapes}')
    return arch or named, num_classes
