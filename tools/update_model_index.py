"""Update the model index from configs/: the metafile.yml of each folder, and model-index.yml.

Every config has one entry. Parameters, FLOPs, task, data, batch size and training length are
computed from the config each time. The collections of a metafile and the metrics of a model are
written by hand and are kept; the metrics are those of the paper, and say so.

    python tools/update_model_index.py            # after adding or changing a config
    python tools/update_model_index.py --check    # write nothing, fail if a file is outdated
"""

import argparse
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml
from mmengine.config import Config

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.engine.cost import count_config
from mmvitlin.engine.hosts import HOSTS, image_shape
from mmvitlin.engine.launcher import one_line_errors
from mmvitlin.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
INDEX = 'model-index.yml'
HEADER = """\
# Written by tools/update_model_index.py, all but the collections and the metrics.
# Metrics are those that the paper reports, and say so. No number is ours, and no weights are
# published.
"""
DATASETS = {
    'ADE20KDataset': 'ADE20K',
    'CIFAR10': 'CIFAR-10',
    'CIFAR100': 'CIFAR-100',
    'CocoDataset': 'COCO',
    'ImageNet': 'ImageNet-1k',
    'ImageNet21k': 'ImageNet-21k',
    'mmvitlin.DigitKeypoints': 'Digits',
    'mmvitlin.DigitScenes': 'Digit Scenes',
    'mmvitlin.Digits': 'Digits',
    'mmvitlin.ImageNetTar': 'ImageNet-1k',
}
# The same for folders of images, by the folder; its subfolders may be data sets of their own.
FOLDERS = {
    'data/imagenet-a': 'ImageNet-A',
    'data/imagenet-c': 'ImageNet-C',
    'data/imagenet-r': 'ImageNet-R',
    'data/imagenet-sketch': 'ImageNet-Sketch',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--check', action='store_true', help='write nothing; fail if a file is outdated'
    )
    return parser.parse_args()


def dataset_of(cfg: Config, split: str) -> str | None:
    """Return the published name of the data that a config trains or tests on."""
    dataset = cfg[f'{split}_dataloader'].dataset
    while 'dataset' in dataset or 'datasets' in dataset:  # a wrapper such as RepeatDataset
        dataset = dataset.get('dataset') or dataset.datasets[0]
    folder = '/'.join(dataset.get('data_root', '').split('/')[:2])
    return DATASETS.get(dataset.type) or FOLDERS.get(folder)


def length_of(cfg: Config) -> dict:
    """Return the number of epochs or iterations that a config trains for."""
    if 'max_iters' in cfg.train_cfg:
        return {'Iterations': cfg.train_cfg.max_iters}
    return {'Epochs': cfg.train_cfg.max_epochs}


def entry_of(path: Path, collection: str, old: dict, costs: dict) -> dict:
    """Create the index entry of a config.

    Args:
        path: the config.
        collection: its collection, unless `old` names another one.
        old: the existing entry, whose metrics are kept. Where the config's host is not installed
            it is kept as it is.
        costs: costs of models that have been counted already; several configs share a model.

    Raises:
        ConfigError: the config tests on data whose published name is not in `DATASETS`.
    """
    cfg = Config.fromfile(path)
    if find_spec(cfg.default_scope) is None and old:  # a host that not every machine has
        return old
    import_module(cfg.default_scope)
    model = repr((cfg.model, cfg.get('data_preprocessor'), image_shape(cfg)))
    cost = costs[model] = costs.get(model) or count_config(cfg)
    split = 'test' if cfg.get('test_dataloader') else 'train'  # pre-training tests on nothing
    dataset = dataset_of(cfg, split)
    if dataset is None:
        raise ConfigError(
            f'{path} reads {cfg[f"{split}_dataloader"].dataset.type}; add the name under which '
            f'this data set is published to DATASETS in {Path(__file__).name}'
        )
    frozen = {'Frozen Parameters': cost.frozen_outside} if cost.frozen_outside else {}
    metrics = {result['Task']: result['Metrics'] for result in old.get('Results', ())}
    return {
        'Name': path.stem,
        'In Collection': old.get('In Collection', collection),
        'Metadata': {
            'Parameters': cost.parameters,
            **frozen,
            'FLOPs': cost.flops.total,
            'Image Size': '{} x {}'.format(*cost.shape),
            'Training Data': dataset_of(cfg, 'train') or dataset,
            'Batch Size': cfg.auto_scale_lr.base_batch_size,
            **length_of(cfg),
        },
        'Results': [
            {'Task': task, 'Dataset': dataset, 'Metrics': metrics.get(task) or {}}
            for task in HOSTS[cfg.default_scope].tasks(cfg)
        ],
        'Config': path.relative_to(ROOT).as_posix(),
    }


def metafile_of(folder: Path, costs: dict) -> str:
    """Create the text of the metafile of a folder.

    Raises:
        ConfigError: the folder has no metafile yet, so its configs belong to no collection.
    """
    path = folder / 'metafile.yml'
    if not path.is_file():
        raise ConfigError(
            f'there is no {path.relative_to(ROOT)}; begin it with the collection of its configs: '
            'Collections, with Name, Paper and README, as in the other folders'
        )
    old = yaml.safe_load(path.read_text())
    entries = {entry['Name']: entry for entry in old.get('Models', ())}
    collection = old['Collections'][0]['Name']
    models = [
        entry_of(config, collection, entries.get(config.stem, {}), costs)
        for config in sorted(folder.glob('*.py'))
    ]
    return HEADER + dump({'Collections': old['Collections']}) + '\n' + dump({'Models': models})


def dump(content: dict) -> str:
    """Dump YAML in the order of the dictionaries, with a blank line between models."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return re.sub(r'(?<!:)\n(?=- Name)', '\n\n', text)


def main() -> None:
    """Write the index, or check it."""
    args = parse_args()
    folders = sorted(
        {path.parent for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts}
    )
    costs = {}
    texts = {folder / 'metafile.yml': metafile_of(folder, costs) for folder in folders}
    imports = [path.relative_to(ROOT).as_posix() for path in texts]
    texts[ROOT / INDEX] = dump({'Import': imports})
    old = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if args.check and old:
        names = ', '.join(path.relative_to(ROOT).as_posix() for path in old)
        raise ConfigError(f'{names}: not up to date; run python tools/{Path(__file__).name}')
    for path in old:
        with atomic_write(path) as partial:
            partial.write_text(texts[path])
        print(f'{path.relative_to(ROOT)} is up to date now')


if __name__ == '__main__':
    with one_line_errors():
        main()
