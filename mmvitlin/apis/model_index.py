"""Model index of the package: names of models, with their configs and tasks."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from heapq import nlargest
from pathlib import Path

import mmengine

from mmvitlin.checkpoints.converters import CONVERTERS

INDEX = 'model-index.yml'
CLASSIFICATION = 'Image Classification'
DETECTION = 'Object Detection'
SEGMENTATION = 'Semantic Segmentation'
POSE = 'Pose Estimation'
PRE_TRAINING = 'Self-Supervised Learning'
NEAREST_SHOWN = 5  # names in an error

# Backbone -> name of the original in tools/convert_checkpoint.py.
ORIGINALS = {
    backbone: converter.name
    for converter in CONVERTERS.values()
    for backbone in converter.backbones
}


class UnknownModelError(ValueError):
    """A name that is not in the model index, or is there for another task."""


@dataclass(frozen=True)
class IndexEntry:
    """Entry of a model in the index.

    Attributes:
        name: the name of its config, without '.py'.
        config: the path of its config.
        tasks: names of tasks as the hosts write them, such as 'Image Classification'.
        content: the whole entry, as in the metafile.
    """

    name: str
    config: Path
    tasks: tuple[str, ...]
    content: dict


def index_folder() -> Path:
    """Find the folder with model-index.yml, configs/ and tools/.

    It is `mmvitlin/.mim` in an installed package, and the root of the repository in a checkout.

    Raises:
        FileNotFoundError: the index is in neither of them.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / '.mim', package.parent):
        if (folder / INDEX).is_file():
            return folder
    raise FileNotFoundError(
        f'there is no {INDEX} in {package / ".mim"} (installed package) or {package.parent} '
        '(checkout): install the package again'
    )


@cache
def read_index() -> dict[str, IndexEntry]:
    """Read the index: name -> entry."""
    folder = index_folder()
    entries = {}
    for metafile in mmengine.load(folder / INDEX)['Import']:
        for content in mmengine.load(folder / metafile)['Models']:
            tasks = tuple(result['Task'] for result in content['Results'])
            name = content['Name']
            entries[name] = IndexEntry(name, folder / content['Config'], tasks, content)
    return entries


def find_names(pattern: str | None = None, task: str | None = None) -> list[str]:
    """Return the sorted names that begin with a wildcard pattern and are for a task."""
    return sorted(
        name
        for name, entry in read_index().items()
        if (pattern is None or fnmatch.fnmatchcase(name, f'{pattern.lower()}*'))
        and (task is None or task in entry.tasks)
    )


def find_entry(name: str, task: str | None = None) -> IndexEntry:
    """Return the entry of a name, which may be in upper or lower case.

    Args:
        name: the name of a config, without '.py'.
        task: the task that the caller needs; None for any.

    Raises:
        UnknownModelError: there is no such model, or it is for another task; the message gives the
            nearest names.
    """
    entry = read_index().get(name.lower())
    if entry is None:
        nearest = ', '.join(nearest_names(name, find_names(task=task)))
        raise UnknownModelError(
            f'there is no model {name!r} in mmvitlin; the nearest are {nearest}. '
            'mmvitlin.apis.list_models() lists all names'
        )
    if task is not None and task not in entry.tasks:
        raise UnknownModelError(
            f'{entry.name} is for {" and ".join(entry.tasks)}, expected a model for {task}; '
            'mmvitlin.apis.get_inferencer accepts models of all tasks'
        )
    return entry


def nearest_names(name: str, names: Iterable[str]) -> list[str]:
    """Return the `names` that, in whole or by their beginning, are most similar to `name`."""
    given = name.lower()

    def likeness(known: str) -> float:
        beginning = known[: len(given)]
        return max(SequenceMatcher(None, given, text).ratio() for text in (known, beginning))

    return nlargest(NEAREST_SHOWN, names, key=likeness)


def how_to_get_weights(name: str, backbone: str) -> str:
    """Explain how to get the weights of a model, since none are published.

    Args:
        name: the name of the model.
        backbone: the type of its backbone in the config.
    """
    trained_on = read_index()[name].content['Results'][0]['Dataset']
    if backbone in ORIGINALS and trained_on.startswith('ImageNet'):
        way = (
            'convert those of the original by python tools/convert_checkpoint.py '
            f'{ORIGINALS[backbone]} ORIGINAL.pth {name}.pth'
        )
    else:
        way = 'train it by python tools/train.py with its config'
    return (
        f'no weights of {name} are published with mmvitlin: {way} (or by the same tools through '
        f'mim), and give the path of the checkpoint'
    )
