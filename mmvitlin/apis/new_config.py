"""Writing a config for a user's own data, which inherits from one of ours."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config

from mmvitlin.checkpoints.safe_load import load_checkpoint
from mmvitlin.checkpoints.state_dicts import extract_state_dict
from mmvitlin.datasets.own_data.colors import distinct_colors
from mmvitlin.engine.class_counts import find_numbers
from mmvitlin.engine.run_plan import (
    RunPlan,
    average_hook,
    round_to_digits,
    starts_from_checkpoint,
)
from mmvitlin.errors import ConfigError

if TYPE_CHECKING:
    from mmvitlin.datasets.own_data import DataSummary

Setting = str | tuple[str, Any]  # a comment, or a name of the config and its value
WIDTH = 100  # of a line
AVERAGES = ('EMAHook', 'mmpretrain.EMAHook', 'mmengine.EMAHook', 'mmvitlin.AverageHook')
DENSE_PARTS = ('bbox_head.', 'decode_head.', 'neck.', 'roi_head.', 'rpn_head.')
SMALL_SIDES = {'mmpretrain': (32, 96), 'mmdet': (128, 256), 'mmseg': (128, 256)}  # of quickstarts
SIDE_STEP = 32  # the stride of the last map
LARGEST_WEIGHT = 10.0  # of a rare class in the loss


class Code(str):
    """Text that is written into a config as it is, not as a string."""


def compose_config(
    path: Path,
    base_path: Path,
    data: 'DataSummary',
    plan: RunPlan,
    checkpoint: str | None = None,
    size: int | None = None,
    flip: bool = True,
    commands: Sequence[str] = (),
) -> str:
    """Compose a config for own data.

    Args:
        path: file of the new config, to which paths in the config are relative.
        base_path: our config to inherit from.
        data: the data.
        plan: batch, learning rate and length.
        checkpoint: to start from; a file or a URL.
        size: the side of the images in pixels; by default from the model and the data.
        flip: whether images may be mirrored.
        commands: commands to train and to test, for the header.

    Returns:
        The text of the config.

    Raises:
        ConfigError: the base cannot be trained on own data, its model predicts masks and the data
            has none, or the checkpoint is of no model with a backbone.
    """
    base = Config.fromfile(base_path)
    check_base(base, base_path, data)
    keeps_pipelines = has_file_pipelines(base) and size is None
    size = size or choose_size(base, data)
    settings = [
        ('_base_', relative_base(path, base_path)),
        '# The classes, in the order of their labels. They stand here only: all else counts them.',
        ('classes', data.classes),
        ('num_classes', Code('len(classes)')),
        *_color_settings(base, data),
        *_model_settings(base, data, checkpoint, size, keeps_pipelines),
        *_data_settings(base, data, plan, size, flip, keeps_pipelines),
        *_schedule_settings(base, plan),
    ]
    header = f'"""{path.stem}: {data.train} images to train on, {data.val} to validate on.'
    text = '\n'.join(_assignment(setting) for setting in settings)
    source = f'Written by tools/new_config.py from {data.root}; change any line.'
    listed = ''.join(f'{command}\n' for command in commands)
    return f'{header}\n\n{listed}\n{source}\n"""\n\n{text}\n'


def check_base(base: Config, base_path: Path, data: 'DataSummary') -> None:
    """Check that a config of ours can be trained on own data.

    Raises:
        ConfigError: it cannot.
    """
    model, name = base.model, base_path.stem
    if model.type == 'mmvitlin.DistillationClassifier':
        raise ConfigError(f'{name} learns from a teacher of its own classes; take another model')
    if model.get('head', {}).get('type') == 'mmvitlin.TokenLabelHead':
        raise ConfigError(
            f'{name} learns from label maps, which tools/generate_token_labels.py makes; take '
            'another model first, as a teacher for those'
        )
    if base.get('val_cfg') is None:
        raise ConfigError(f'{name} does not validate; take another model')
    if 'mask_head' in model.get('roi_head', {}) and not data.details.get('with_mask'):
        raise ConfigError(
            f'{name} predicts masks, and not every object of the data has one; take a RetinaNet, '
            'such as retinanet_l2vit-tiny_fpn_1x_coco'
        )


def relative_base(path: Path, base_path: Path) -> str:
    """Return the path of the base: relative if both files are in one checkout, else absolute."""
    path, base_path = path.resolve(), base_path.resolve()
    checkout = next(p.parent for p in base_path.parents if p.name == 'configs')
    if not path.is_relative_to(checkout):
        return base_path.as_posix()
    return Path(os.path.relpath(base_path, path.parent)).as_posix()


def has_file_pipelines(base: Config) -> bool:
    """Return whether a config's pipelines read files."""
    return base.train_pipeline[0]['type'] == 'LoadImageFromFile'


def choose_size(base: Config, data: 'DataSummary') -> int:
    """Choose the image size for a model that was made for digits."""
    smallest, largest = SMALL_SIDES[base.default_scope]
    side = -(-data.side() // SIDE_STEP) * SIDE_STEP
    return min(max(side, smallest), largest)


def _color_settings(base: Config, data: 'DataSummary') -> list[Setting]:
    """Return the colors of classes in pictures, which mmsegmentation draws at random."""
    if base.default_scope != 'mmseg':
        return []
    colors = distinct_colors(len(data.classes))
    return ['# Their colors in pictures: red, green, blue.', ('palette', colors)]


def _model_settings(
    base: Config, data: 'DataSummary', checkpoint: str | None, size: int, keeps_pipelines: bool
) -> list[Setting]:
    """Return the settings of the model: class counts, initial weights, image size."""
    model: dict[str, Any] = {}
    for place, _ in find_numbers(base, ('model',), 'num_classes'):
        _put(model, place, Code('num_classes'))
    settings: list[Setting] = []
    if places := _class_weights(base.model, 'model'):
        settings += [
            '# Rare classes weigh more: sqrt(pixels of the largest class / own pixels), at most '
            f'{LARGEST_WEIGHT:g}.',
            ('class_weight', balance(data.details['pixels'])),
        ]
        for place in places:
            _put(model, place, Code('class_weight'))
    if not keeps_pipelines and 'img_size' in base.model.backbone:
        _put(model, 'model.backbone.img_size', size)
    if not keeps_pipelines and 'size' in base.model.get('data_preprocessor', {}):
        _put(model, 'model.data_preprocessor.size', (size, size))
    old = base.model.backbone.get('init_cfg')
    if checkpoint is None:
        if starts_from_checkpoint(base):
            settings.append('# From random weights; a checkpoint would train faster and better.')
            _put(model, 'model.backbone.init_cfg', None)
            if base.get('load_from'):
                settings.append(('load_from', None))
    else:
        prefix = checkpoint_prefix(checkpoint, base.default_scope)
        if prefix is None:  # a whole detector or segmentor: the rest of it helps as well
            settings.append(('load_from', checkpoint))
            if starts_from_checkpoint(base):
                _put(model, 'model.backbone.init_cfg', None)
        else:
            settings.append('# The backbone starts from a checkpoint; the log says what fitted.')
            init_cfg: dict[str, Any] = dict(type='Pretrained', checkpoint=checkpoint)
            if prefix:
                init_cfg['prefix'] = prefix
            if isinstance(old, dict):
                init_cfg = dict(_delete_=True, **init_cfg)
            _put(model, 'model.backbone.init_cfg', init_cfg)
            if base.get('load_from'):
                settings.append(('load_from', None))
    settings.append(('model', model['model']))
    if 'num_classes' in (base.get('data_preprocessor') or {}):
        settings.append(('data_preprocessor', dict(num_classes=Code('num_classes'))))
    return settings


def checkpoint_prefix(checkpoint: str, scope: str) -> str | None:
    """Return the part of a checkpoint that a new model starts from, by the names of its weights.

    Returns:
        'backbone.' for the backbone of a classifier, or of any model where a classifier is to be
        trained; '' for a file of a backbone alone; None for a whole detector or segmentor.

    Raises:
        CheckpointError: the checkpoint cannot be loaded safely.
        ConfigError: the backbone's names are those of another project.
    """
    names = list(extract_state_dict(load_checkpoint(checkpoint), checkpoint))
    if not any(name.startswith('backbone.') for name in names):
        if any(name.startswith(('head.', 'fc.', 'blocks.')) for name in names):
            raise ConfigError(
                f'{checkpoint} has no backbone.*: its names start with {names[0]}; convert an '
                'original checkpoint by tools/convert_checkpoint.py'
            )
        return ''
    is_dense = any(name.startswith(DENSE_PARTS) for name in names)
    return None if is_dense and scope != 'mmpretrain' else 'backbone.'


def _data_settings(
    base: Config,
    data: 'DataSummary',
    plan: RunPlan,
    size: int,
    flip: bool,
    keeps_pipelines: bool,
) -> list[Setting]:
    """Return pipelines, data loaders and evaluators."""
    settings: list[Setting] = []
    if keeps_pipelines:
        pipelines = {split: Code(f'_base_.{split}_pipeline') for split in ('train', 'test')}
    else:
        settings.append(f'# Images of {size} x {size} pixels.')
        pipes = PIPELINES[base.default_scope](size, flip, data)
        settings += [(f'{split}_pipeline', pipes[split]) for split in ('train', 'test')]
        pipelines = {split: Code(f'{split}_pipeline') for split in ('train', 'test')}
    common, evaluator = DATASETS[base.default_scope](data)
    metainfo = dict(classes=Code('classes'))
    if base.default_scope == 'mmseg':
        metainfo['palette'] = Code('palette')
    settings.append(('data', {**common, 'metainfo': metainfo}))
    loader = dict(num_workers=2, persistent_workers=True)
    train = dict(_delete_=True, **{'**': Code('data')}, ann_file=_beside(data.files['train']))
    if base.default_scope == 'mmdet':
        train['filter_cfg'] = dict(filter_empty_gt=True)
    train['pipeline'] = pipelines['train']
    val = dict(
        _delete_=True,
        **{'**': Code('data')},
        ann_file=_beside(data.files['val']),
        test_mode=True,
        pipeline=pipelines['test'],
    )
    options: dict[str, Any] = dict(drop_last=True) if plan.drop_last else {}
    if base.train_dataloader.get('sampler', {}).get('type') == 'mmvitlin.WholeStepSampler':
        # Its steps have the base's batches; here a batch is a step.
        options['sampler'] = dict(_delete_=True, type='DefaultSampler', shuffle=True)
    val_batch = {'mmpretrain': plan.batch_size}.get(base.default_scope, 1)
    settings += [
        ('train_dataloader', dict(batch_size=plan.batch_size, **loader, **options, dataset=train)),
        ('val_dataloader', dict(batch_size=val_batch, **loader, dataset=val)),
        ('test_dataloader', Code('val_dataloader')),
    ]
    if evaluator:
        settings += [('val_evaluator', evaluator), ('test_evaluator', Code('val_evaluator'))]
    return settings


def _folder_dataset(data: 'DataSummary') -> tuple[dict, dict]:
    topk = (1, 5) if len(data.classes) > 5 else (1,)
    return dict(type='CustomDataset', data_root=str(data.root)), dict(topk=topk)


def _coco_dataset(data: 'DataSummary') -> tuple[dict, dict]:
    common = dict(type='CocoDataset', data_root=str(data.root), data_prefix=dict(img=''))
    return common, dict(ann_file=_beside(data.files['val']))


def _mask_dataset(data: 'DataSummary') -> tuple[dict, dict]:
    common = dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path=str(data.root), seg_map_path=str(data.details['masks'])),
        img_suffix=data.details['img_suffix'],
        seg_map_suffix=data.details['seg_map_suffix'],
    )
    return common, {}


def _classification_pipelines(size: int, flip: bool, data: 'DataSummary') -> dict[str, list]:
    load, pack = dict(type='LoadImageFromFile'), dict(type='PackInputs')
    crop = dict(
        type='RandomResizedCrop', scale=size, crop_ratio_range=(0.5, 1.0), interpolation='bicubic'
    )
    resize = dict(type='ResizeEdge', scale=size, edge='short', interpolation='bicubic')
    flips = [dict(type='RandomFlip', prob=0.5, direction='horizontal')] if flip else []
    return {
        'train': [load, crop, *flips, pack],
        'test': [load, resize, dict(type='CenterCrop', crop_size=size), pack],
    }


def _detection_pipelines(size: int, flip: bool, data: 'DataSummary') -> dict[str, list]:
    load = dict(type='LoadImageFromFile')
    masks = dict(with_mask=True) if data.details['with_mask'] else {}
    annotations = dict(type='LoadAnnotations', with_bbox=True, **masks)
    resize = dict(type='Resize', scale=(size, size), keep_ratio=True)
    flips = [dict(type='RandomFlip', prob=0.5)] if flip else []
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    return {
        'train': [load, annotations, resize, *flips, dict(type='PackDetInputs')],
        'test': [load, resize, annotations, dict(type='PackDetInputs', meta_keys=keys)],
    }


def _segmentation_pipelines(size: int, flip: bool, data: 'DataSummary') -> dict[str, list]:
    load, annotations = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')
    scale = dict(type='RandomResize', scale=(size, size), ratio_range=(0.75, 1.5), keep_ratio=True)
    crop = dict(type='RandomCrop', crop_size=(size, size))
    resize = dict(type='Resize', scale=(size, size), keep_ratio=True)
    flips = [dict(type='RandomFlip', prob=0.5)] if flip else []
    pack = dict(type='PackSegInputs')
    return {
        'train': [load, annotations, scale, crop, *flips, pack],
        'test': [load, resize, annotations, pack],  # labels keep their size
    }


DATASETS = {'mmpretrain': _folder_dataset, 'mmdet': _coco_dataset, 'mmseg': _mask_dataset}
PIPELINES = {
    'mmpretrain': _classification_pipelines,
    'mmdet': _detection_pipelines,
    'mmseg': _segmentation_pipelines,
}


def _schedule_settings(base: Config, plan: RunPlan) -> list[Setting]:
    """Return length, learning rate, average, and how often to validate, save and log."""
    unit = 'epochs' if plan.by_epoch else 'iters'
    length, warm_up = Code(f'max_{unit}'), Code(f'warmup_{unit}')
    by = dict(convert_to_iter_based=True) if plan.by_epoch else dict(by_epoch=False)
    total = plan.batch_size * plan.gpus
    old_batch = base.auto_scale_lr.base_batch_size
    old_lr = base.optim_wrapper.optimizer.lr
    wrapper: dict[str, Any] = dict(optimizer=dict(lr=plan.lr))
    if base.optim_wrapper.get('accumulative_counts', 1) > 1:
        wrapper['accumulative_counts'] = 1
    lowest = round_to_digits(plan.lr / 100, 2)
    schedulers = [dict(type='CosineAnnealingLR', eta_min=lowest, begin=warm_up, end=length, **by)]
    if plan.warm_up:
        schedulers.insert(0, dict(type='LinearLR', start_factor=0.01, end=warm_up, **by))
    settings: list[Setting] = [
        f'# {plan.steps} optimizer steps.',
        (f'max_{unit}', plan.length),
        (f'warmup_{unit}', plan.warm_up),
        f'# For batches of {total}; the recipe has {old_lr:g} for {old_batch}.',
        ('optim_wrapper', wrapper),
        ('param_scheduler', schedulers),
        ('train_cfg', {length: length, 'val_interval': plan.val_interval}),
        ('auto_scale_lr', dict(base_batch_size=total)),
    ]
    hooks = base.get('custom_hooks') or []
    kept = [_fit_to_run(dict(hook), base) for hook in hooks if hook['type'] not in AVERAGES]
    if len(kept) < len(hooks):
        settings.append('# Tests take the average weights of about the last tenth of the steps.')
        kept.insert(0, average_hook())
    if hooks:
        settings.append(('custom_hooks', kept))
    checkpoint = dict(interval=plan.val_interval, max_keep_ckpts=2)
    best = base.default_hooks.checkpoint.get('save_best')
    if isinstance(best, list):  # includes the raw model, which is not tested
        checkpoint['save_best'] = best[0]
    hooks = dict(logger=dict(interval=min(plan.steps, 10)), checkpoint=checkpoint)
    return [*settings, ('default_hooks', hooks), ('randomness', dict(seed=0))]


def _fit_to_run(hook: dict, base: Config) -> dict:
    """Convert a curriculum's epochs to fractions, which fit a run of any length.

    Its larger batches of small images are removed, since they are multiples of the base's batch.
    """
    hook.pop('batch_size', None)
    steps = hook.get('expansion_step')
    if steps and max(steps) >= 1:
        length = base.train_cfg.max_epochs
        hook['expansion_step'] = tuple(round(step / length, 4) for step in steps)
    return hook


def _class_weights(node: object, place: str) -> list[str]:
    """Find the places of the class weights of a base."""
    if not isinstance(node, Mapping):
        return []
    found = [f'{place}.class_weight'] if node.get('class_weight') is not None else []
    return found + [p for name, v in node.items() for p in _class_weights(v, f'{place}.{name}')]


def balance(pixels: Sequence[int]) -> list[float]:
    """Compute the weight of each class in the loss from its number of pixels."""
    largest = max(pixels)
    weights = [math.sqrt(largest / max(count, 1)) for count in pixels]
    return [round(min(weight, LARGEST_WEIGHT), 1) for weight in weights]


def _beside(path: Path) -> str:
    """Return the path of a data file; a file without a folder is in the folder of the config."""
    return str(path) if path.is_absolute() else f'{{{{ fileDirname }}}}/{path}'


def _put(tree: dict, place: str, value: object) -> None:
    """Set the value at a dotted place."""
    *parents, last = place.split('.')
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _assignment(setting: str | tuple[str, object]) -> str:
    """Write a setting, or a comment, as lines of a config."""
    if isinstance(setting, str):
        return '\n' + '\n'.join(textwrap.wrap(setting, WIDTH, subsequent_indent='# '))
    name, value = setting
    return f'{name} = {render(value, len(name) + 3)}'


def render(value: object, used: int = 0, indent: int = 0) -> str:
    """Write a value as Python: on one line if it fits, else one line per item.

    Args:
        value: numbers, strings, lists, tuples, dicts with names as keys, and Code. The key '**'
            unpacks its value.
        used: columns before the value on its line.
        indent: of that line.
    """
    if isinstance(value, Code) or not isinstance(value, (dict, list, tuple)):
        return str(value) if isinstance(value, Code) else repr(value)
    opening, closing = {dict: ('dict(', ')'), list: ('[', ']'), tuple: ('(', ')')}[type(value)]
    if isinstance(value, dict):
        items = [('**' if k == '**' else f'{k}=', v) for k, v in value.items()]
    else:
        items = [('', item) for item in value]
    line = ', '.join(f'{name}{render(item, -10 * WIDTH)}' for name, item in items)
    comma = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    if indent + used + len(line) + 8 <= WIDTH:
        return f'{opening}{line}{comma}{closing}'
    inner = indent + 4
    if isinstance(value, (list, tuple)) and not any(isinstance(item, dict) for item in value):
        return _filled(items, opening, closing, indent)
    lines = [f'{" " * inner}{name}{render(item, len(name) + 1, inner)},\n' for name, item in items]
    return f'{opening}\n{"".join(lines)}{" " * indent}{closing}'


def _filled(items: Sequence[tuple[str, object]], opening: str, closing: str, indent: int) -> str:
    """Write the items of a list or tuple on as few lines as they need."""
    margin = ' ' * (indent + 4)
    # Lines break between items, and not at spaces inside them.
    line = ', '.join(render(item, -10 * WIDTH).replace(' ', '\0') for _, item in items)
    text = textwrap.fill(
        f'{line},',
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    text = text.replace('\0', ' ')
    return f'{opening}\n{text}\n{" " * indent}{closing}'
