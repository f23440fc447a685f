"""Converting an original checkpoint to one that loads strictly in the model of its config."""

from collections.abc import Sequence
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
    img_size: Sequence[int] | None = None,
    mid_img_size: Sequence[int] | None = None,
) -> Converted:
    """Convert the checkpoint of an original classifier, or of YOLOS's detector.

    Args:
        system: a name in `CONVERTERS`.
        source: a file or a URL: a state dict, bare or under 'model' or 'state_dict'; or a
            checkpoint of our own training, for another head or to be stripped to its weights.
        arch: name of the expected arch, to refuse checkpoints of another; None takes any.
        ema: take the moving average, under 'model_ema'.
        class_index: a file of 1000 lines, line i the index in `source` of new class i.
        img_size, mid_img_size: (H, W) of the position embeddings of YOLOS; by default those that
            the original's command line in `source` names.

    Raises:
        CheckpointError: the file cannot be loaded, or is not a checkpoint of the system, or the
            class index is not of its classes.
    """
    converter = CONVERTERS[system]
    loaded = load_checkpoint(source)
    weights, kind = find_weights(loaded, source, ema, converter)
    given = dict(img_size=img_size, mid_img_size=mid_img_size)
    try:
        renamed = converter.rename(weights)
        sizes = converter.read_sizes(renamed, loaded, given) if converter.read_sizes else {}
        found, num_classes = check_weights(renamed, converter, arch, **sizes)
    except ValueError as error:  # a backbone refuses widths and heads that do not go together
        raise CheckpointError(f'{source} is not a checkpoint of {system}: {error}') from None
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
        **sizes,
    )
    notes.append(
        f'{len(renamed)} tensors of {system}, arch {found}, {num_classes} classes, from the {kind}'
    )
    if converter.guessed and isinstance(found, dict):  # not a named arch of the zoo
        notes.append(
            f'{" and ".join(converter.guessed)} of this arch leave no trace in weights and are '
            'guesses: build the model with those that it was trained with'
        )
    return Converted(dict(meta=meta, state_dict=renamed), tuple(notes))


def find_weights(
    loaded: Any, source: str, ema: bool, converter: Converter
) -> tuple[dict[str, Tensor], str]:
    """Find the weights in the content of a checkpoint; return them and a description.

    Raises:
        CheckpointError: there are none, no moving average where one is asked for, or they are of
            another task than the converter's.
    """
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
        if prefix != f'{converter.head}.' and any(name.startswith(prefix) for name in weights):
            raise CheckpointError(
                f'{source} is a {task} checkpoint, with weights such as {prefix}*; classifiers are '
                'converted, so give the one that its training started from'
            )
    return weights, f'weights under {key!r}' if key else 'weights of a bare state dict'


def check_weights(
    weights: dict[str, Tensor],
    converter: Converter,
    arch: str | None,
    **sizes: tuple[int, int],
) -> tuple[str | dict, int]:
    """Check that renamed weights load strictly; return their arch and number of classes.

    Raises:
        CheckpointError: they are not those of a model of the arch, with what differs.
    """
    read = converter.read_arch(weights)
    zoo = converter.arch_zoo()
    named = next((name for name, settings in zoo.items() if settings == read), read)
    num_classes = converter.count_classes(weights)
    with torch.device('meta'):
        backbone: Any = converter.build_backbone(arch or named, weights, **sizes)
        widths = backbone.embed_dims
        width = widths if isinstance(widths, int) else widths[-1]
        head = converter.build_head(weights, num_classes, width)
        model = nn.ModuleDict({'backbone': backbone, converter.head: head})
    differences = compare(weights, model.state_dict())
    if differences:
        shapes = f'; its shapes are those of arch {named}' if arch else ''
        raise CheckpointError(f'against arch {arch or named}, {describe(differences)}{shapes}')
    return arch or named, num_classes
