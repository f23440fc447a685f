"""Class counts of a config: every place that states one, and a check that all agree.

A config states the number of classes in its head, in mmpretrain's data preprocessor (mixup makes
one-hot labels there), and by the names of its data sets' classes. MMEngine evaluates base files
before the file that inherits from them, so that no base can derive one from another.
"""

from collections.abc import Iterator, Mapping

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmvitlin.errors import ConfigError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')
# Parts of a model with classes of their own: teachers, heads of auxiliary tasks, and proposals.
OWN_CLASSES = ('teacher', 'rpn_head', 'semantic_head', 'task_heads')


def check_class_counts(cfg: Config) -> None:
    """Check that all class counts of a config agree, and that no top-k asks for more classes.

    Raises:
        ConfigError: they do not; the error names every place with its count.
    """
    counts = class_counts(cfg)
    if len(set(counts.values())) > 1:
        places = ', '.join(f'{place} = {count}' for place, count in counts.items())
        raise ConfigError(
            f'the numbers of classes disagree: {places}; give all of them the number of classes '
            'of the data'
        )
    if not counts:
        return
    count = next(iter(counts.values()))
    for place, k in find_numbers(cfg, EVALUATORS, 'topk'):
        if k > count:
            raise ConfigError(f'{place} asks for the {k} best of {count} classes; set topk to (1,)')


def class_counts(cfg: Config) -> dict[str, int]:
    """Return place -> class count, of every place that states one.

    A data set counts by its `metainfo.classes`, else by the classes that its type declares. One
    that finds its classes in folders states none.
    """
    places = ('data_preprocessor', 'model', *EVALUATORS)
    counts = dict(find_numbers(cfg, places, 'num_classes'))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        for loader in LOADERS:
            outer = (cfg.get(loader) or {}).get('dataset')
            for place, dataset in _datasets(outer, f'{loader}.dataset'):
                classes = _classes_of(dataset)
                if classes is not None:
                    counts[place] = len(classes)
    return counts


def find_numbers(cfg: Config, roots: tuple[str, ...], key: str) -> Iterator[tuple[str, int]]:
    """Find the numbers under `key` in parts of a config; of several, such as a top-k, the largest.

    Yields:
        The place, such as 'model.head.num_classes', and the number.
    """
    for root in roots:
        for place, value in _walk(cfg.get(root), root):
            if place.rpartition('.')[2] == key:
                numbers = value if isinstance(value, (list, tuple)) else [value]
                if numbers and all(isinstance(number, int) for number in numbers):
                    yield place, max(numbers)


def _walk(node: object, place: str) -> Iterator[tuple[str, object]]:
    """Yield each place and value below `node`, but those of parts with classes of their own."""
    if isinstance(node, Mapping):
        children = [(f'{place}.{name}', value) for name, value in node.items()]
    elif isinstance(node, (list, tuple)):
        children = [(f'{place}.{index}', value) for index, value in enumerate(node)]
    else:
        return
    for name, value in children:
        if name.rpartition('.')[2] not in OWN_CLASSES:
            yield name, value
            yield from _walk(value, name)


def _datasets(dataset: Mapping | None, place: str) -> Iterator[tuple[str, Mapping]]:
    """Yield place and config of a data set, or of those inside its wrappers."""
    if not isinstance(dataset, Mapping):
        return
    if 'datasets' in dataset:  # ConcatDataset
        for index, part in enumerate(dataset['datasets']):
            yield from _datasets(part, f'{place}.datasets.{index}')
    elif 'dataset' in dataset:  # a wrapper such as RepeatDataset
        yield from _datasets(dataset['dataset'], f'{place}.dataset')
    else:
        yield f'{place} ({dataset.get("type")})', dataset


def _classes_of(dataset: Mapping) -> tuple[str, ...] | None:
    """Return the names of a data set's classes where its config or its type states them."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    return None if classes is None or isinstance(classes, str) else tuple(classes)
