"""Places of a config that state a number of classes, or of best classes."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config

EVALUATORS = ('val_evaluator', 'test_evaluator')
# Parts of a model with classes of their own: teachers, heads of auxiliary tasks, and proposals.
OWN_CLASSES = ('teacher', 'rpn_head', 'semantic_head', 'task_heads')


def find_numbers(cfg: Config, roots: tuple[str, ...], key: str) -> Iterator[tuple[str, int]]:
    """Find the numbers under `key` in parts of a config; of a list, such as a top-k, the largest.

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
    """Yield each place and value below `node`, except in parts with classes of their own."""
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
