"""Checks of a config before the run, with one line per mistake."""

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmvitlin.engine.cost import build_on_meta
from mmvitlin.errors import ConfigError

# Optional settings that the runner, hosts and tools read from a config.
OPTIONAL = (
    *inspect.signature(Runner.__init__).parameters,
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'strategy',
    'tta_model',
    'tta_pipeline',
)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_options(options: Mapping, cfg: Config) -> None:
    """Check that `--cfg-options` name settings that exist, by their first part.

    Raises:
        ConfigError: one does not.
    """
    known = {*cfg.keys(), *OPTIONAL}
    for option in options:
        key = option.partition('.')[0]
        if key not in known:
            nearest = get_close_matches(key, known, n=1)
            hint = (
                f'did you mean {option.replace(key, nearest[0], 1)}?'
                if nearest
                else (f'the config has {", ".join(sorted(cfg.keys()))}')
            )
            raise ConfigError(f'--cfg-options {option}: there is no setting {key}; {hint}')


def check_training(cfg: Config, has_accelerator: bool) -> None:
    """Check the settings of a config that training reads.

    Raises:
        ConfigError: it cannot run.
    """
    _check_keys(cfg, ('model', 'work_dir', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
    validation = ('val_dataloader', 'val_cfg', 'val_evaluator')
    given = [key for key in validation if cfg.get(key) is not None]
    if given and len(given) < len(validation):
        missing = ', '.join(key for key in validation if key not in given)
        raise ConfigError(
            f'the config has {", ".join(given)} and no {missing}: give all three, or none to train '
            'without validation'
        )
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if not has_accelerator and wrapper == 'AmpOptimWrapper':
        raise ConfigError(
            'optim_wrapper.type=AmpOptimWrapper trains in mixed precision, which needs an '
            'accelerator, and torch finds none; use optim_wrapper.type=OptimWrapper on a CPU'
        )
    _check_length(cfg.train_cfg)
    _check_save_best(cfg)
    _check_schedules(cfg.get('param_scheduler'))
    _check_topk(cfg, 'val_evaluator')


def check_testing(cfg: Config) -> None:
    """Check the settings of a config that testing reads.

    Raises:
        ConfigError: it cannot run.
    """
    _check_keys(cfg, ('model', 'work_dir', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    _check_topk(cfg, 'test_evaluator')


def check_built(runner: Runner) -> None:
    """Compare the model of a training with its data set.

    Raises:
        ConfigError: a head has fewer classes than the data set.
    """
    loader = runner.train_dataloader
    metainfo = getattr(loader.dataset, 'metainfo', {})
    # Panoptic data counts things and stuff together; the heads count them separately.
    classes = None if 'thing_classes' in metainfo else metainfo.get('classes')
    model = runner.model
    if not isinstance(model, nn.Module):  # FlexibleRunner builds it when training begins
        model = build_on_meta(runner.cfg)
    for name, count in _heads(model):
        if classes is None or count == len(classes):
            continue
        message = f'{name} has num_classes={count}, and the training data {len(classes)} classes'
        if count < len(classes):
            raise ConfigError(f'{message}: set num_classes={len(classes)} in the config')
        print_log(f'{message}: {count - len(classes)} are never seen', 'current', logging.WARNING)
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    sampler, size = loader.batch_sampler.sampler, loader.batch_size
    norms = any(isinstance(module, BATCH_NORMS) and module.training for module in model.modules())
    if norms and size and not loader.drop_last and len(sampler) % size == 1:
        print_log(
            f'the last of {len(loader)} batches has 1 image, and BatchNorm cannot normalise a '
            'single value per channel: set train_dataloader.drop_last=True or another batch_size',
            'current',
            logging.WARNING,
        )


def _check_keys(cfg: Config, keys: Iterable[str]) -> None:
    missing = [key for key in keys if cfg.get(key) is None]
    if missing:
        raise ConfigError(
            f'{cfg.filename} has no {", ".join(missing)}; add it, or a _base_ config that has it'
        )


def _check_length(loop: Mapping) -> None:
    """Check that the length of a training is given in the unit of its loop."""
    by_iteration = loop.get('type') == 'IterBasedTrainLoop' or loop.get('by_epoch') is False
    unit, other = ('max_iters', 'max_epochs') if by_iteration else ('max_epochs', 'max_iters')
    if other in loop:
        raise ConfigError(
            f'train_cfg.{other}={loop[other]} does not go with this config, which counts '
            f'{"iterations" if by_iteration else "epochs"}: set train_cfg.{unit}'
        )


def _check_save_best(cfg: Config) -> None:
    """Check that AverageHook evaluates the model, 'raw' or 'average', of each `save_best` metric.

    The model that the hook evaluates first has metrics without its name.
    """
    names = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best') or []
    seconds = [
        hook['evaluate'][1]
        for hook in cfg.get('custom_hooks') or []
        if str(hook.get('type')).endswith('AverageHook') and len(hook.get('evaluate', ())) > 1
    ]
    for name in [names] if isinstance(names, str) else names:
        model, slash, _ = name.partition('/')
        if slash and model in ('raw', 'average') and model not in seconds:
            raise ConfigError(
                f'default_hooks.checkpoint.save_best has {name!r}, and no AverageHook of '
                'custom_hooks evaluates that beside the other model: set save_best=accuracy/top1'
            )


def _check_schedules(schedulers: Any) -> None:
    if isinstance(schedulers, Mapping) and 'type' not in schedulers:  # of several optimizers
        for part in schedulers.values():
            _check_schedules(part)
        return
    listed = [schedulers] if isinstance(schedulers, Mapping) else schedulers or []
    for index, scheduler in enumerate(listed):
        begin, end = scheduler.get('begin', 0), scheduler.get('end')
        if end is not None and begin >= end:
            unit = 'epoch' if scheduler.get('by_epoch', True) else 'iteration'
            raise ConfigError(
                f'param_scheduler[{index}] ({scheduler.type}) begins at {unit} {begin} and ends at '
                f'{end}: give it an end after its begin'
            )


def _check_topk(cfg: Config, key: str) -> None:
    """Check that top-k accuracy has k classes to choose from."""
    head = cfg.model.get('head') or {}
    count = head.get('num_classes')
    if not isinstance(count, int):
        return
    evaluators = cfg.get(key) or []
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    settings = [(f'{key}.topk', item) for item in evaluators if item.get('type') == 'Accuracy']
    for name, setting in (*settings, ('model.head.topk', head)):
        topk = setting.get('topk', 1)
        topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if max(topk) > count:
            possible = tuple(k for k in topk if k <= count) or (1,)
            raise ConfigError(
                f'{name}={topk} needs {max(topk)} classes, and model.head has '
                f'num_classes={count}: set {name}={possible}'
            )


def _heads(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield the name and the number of classes of each head that predicts the data's classes."""
    for name, module in model.named_modules():
        part = name.rpartition('.')[2] if not name.rpartition('.')[2].isdigit() else name
        count = getattr(module, 'num_classes', None)
        is_head = 'head' in part and 'rpn' not in name and 'teacher' not in name
        agnostic = count == 1 and 'mask' in name  # one mask for all classes
        if is_head and isinstance(count, int) and not agnostic:
            yield f'model.{name.removeprefix("module.")}', count
