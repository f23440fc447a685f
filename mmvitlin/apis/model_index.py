"""Where the package's own configs are, and what its model index says of them."""

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from heapq import nlargest
from pathlib import Path

import mmengine

INDEX = 'model-index.yml'
CLASSIFICATION = 'Image Classification'
DETECTION = 'Object Detection'
SEGMENTATION = 'Semantic Segmentation'
NEAREST_SHOWN = 5  # names in an error

# What tools/convert_checkpoint.py calls the original that a backbone is from.
ORIGINALS = {
    'DistilledVisionTransformer': 'deit',
    'VisionTransformer': 'deit',
    'mmvitlin.DeiT': 'deit',
    'mmvitlin.DistilledDeiT': 'deit',
    'mmvitlin.L2ViT': 'l2vit',
    'mmvitlin.LION': 'lion',
    'mmvitlin.LVViT': 'lvvit',
    'mmvitlin.ViTLLaMA': 'vit-llama',
}


class UnknownModelError(ValueError):
    """A name that is not in the model index."""


@dataclass(frozen=True)
class IndexEntry:
    """What the index says of a model.

    Attributes:
        name: the name of its config, without '.py'.
        config: where that is.
        tasks: in the hosts' words, such as 'Image Classification'.
        content: the whole entry, in the index's form.
    """

    name: str
    config: Path
    tasks: tuple[str, ...]
    content: dict


def index_folder() -> Path:
    """The folder that holds model-index.yml, configs/ and tools/.

    In an installed package that is `mmvitlin/.mim`, in a checkout its root.

    Raises:
        FileNotFoundError: neither holds the index.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / '.mim', package.parent):
        if (folder / INDEX).is_file():
            return folder
    raise FileNotFoundError(
        f'mmvitlin finds no {INDEX} in {package / ".mim"} or {package.parent}, where an '
        'installation or a checkout has it, with configs/ beside it; install the package again'
    )


@cache
def read_index() -> dict[str, IndexEntry]:
    """Every model of the index: name -> entry."""
    folder = index_folder()
    entries = {}
    for metafile in mmengine.load(folder / INDEX)['Import']:
        for content in mmengine.load(folder / metafile)['Models']:
            tasks = tuple(result['Task'] for result in content['Results'])
            name = content['Name']
            entries[name] = IndexEntry(name, folder / content['Config'], tasks, content)
    return entries


def find_names(pattern: str | None = None, task: str | None = None) -> list[str]:
    """The sorted names that a pattern matches, with anything behind it, and that are for a task."""
    return sorted(
        name
        for name, entry in read_index().items()
        if (pattern is None or fnmatch.fnmatchcase(name, f'{pattern.lower()}*'))
        and (task is None or task in entry.tasks)
    )


def find_entry(name: str, task: str | None = None) -> IndexEntry:
    """The entry of a name, in upper or lower case.

    Args:
        name: the name of a config, without '.py'.
        task: what the caller can serve; None for all.

    Raises:
        UnknownModelError: there is no such model, or it is for another task; the error gives the
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
            f'{entry.name} is for {" and ".join(entry.tasks)}, and a model for {task} is wanted '
            'here; mmvitlin.apis.get_inferencer takes any'
        )
    return entry


def nearest_names(name: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that are most like a given one, or begin like it: recipes make them long."""
    given = name.lower()

    def likeness(known: str) -> float:
        beginning = known[: len(given)]
        return max(SequenceMatcher(None, given, text).ratio() for text in (known, beginning))

    return nlargest(NEAREST_SHOWN, names, key=likeness)


def how_to_get_weights(name: str, backbone: str) -> str:
    """What to tell whoever asks for published weights of a model, of which there are none.

    Args:
        name: the name of the model.
        backbone: the type of its backbone in the config.
    """
    trained_on = read_index()[name].content['Results'][0]['Dataset']
    if backbone in ORIGINALS and trained_on.startswith('ImageNet'):
        way = (
            'convert those of the original, python tools/convert_checkpoint.py '
            f'{ORIGINALS[backbone]} ORIGINAL.pth {name}.pth'
        )
    else:
        way = 'train it, python tools/train.py with its config'
    return (
        f'no weights of {name} are published with mmvitlin: {way} (or the same through mim), and '
        f'give the file, such as {name}.pth'
    )
