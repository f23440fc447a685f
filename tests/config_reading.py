"""Every config in configs/ of an installed host, and helpers to read one."""

import functools
from copy import deepcopy
from importlib.util import find_spec

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS
from tiny_run import ROOT
from torch import nn

ALL_CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
# Those of installed hosts: mmpose, whose heatmaps are 'td-hm', has a stack of its own.
CONFIGS = [path for path in ALL_CONFIGS if find_spec('mmpose') or 'td-hm_' not in path]


@functools.cache
def _read(path):
    return Config.fromfile(ROOT / path)


def load(path):
    """The config at a path of `CONFIGS`."""
    return deepcopy(_read(path))


def innermost(dataset):
    """The dataset that has the pipeline, the first inside wrappers such as RepeatDataset."""
    while 'pipeline' not in dataset:
        dataset = dataset.get('dataset') or dataset.datasets[0]
    return dataset


def steps(cfg, name, split='train'):
    """The settings of each transform called `name`, nested ones included."""
    found = []

    def search(value):
        if isinstance(value, dict):
            if value.get('type') == name:
                found.append(value)
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for item in value:
                search(item)

    search(innermost(cfg[f'{split}_dataloader'].dataset).pipeline)
    return found


def build_schedulers(cfg, optimizer, epochs, epoch_length):
    """Build the schedulers of a config as a Runner does."""
    settings = cfg.param_scheduler
    schedulers = []
    for scheduler in [settings] if isinstance(settings, dict) else settings:
        scheduler = deepcopy(scheduler)
        by_epoch = scheduler.get('by_epoch', True)
        scheduler.setdefault('end', epochs if by_epoch else epochs * epoch_length)
        defaults = dict(optimizer=optimizer, epoch_length=epoch_length)
        schedulers.append(PARAM_SCHEDULERS.build(scheduler, default_args=defaults))
    return schedulers


def learning_rates(cfg, epochs, epoch_length):
    """The rate of every iteration, by the config's schedulers, in MMEngine's order."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], cfg.optim_wrapper.optimizer.lr)
    count = cfg.optim_wrapper.get('accumulative_counts', 1)
    wrapper = OptimWrapper(optimizer, accumulative_counts=count)
    schedulers = build_schedulers(cfg, wrapper, epochs, epoch_length)
    rates = []
    for iteration in range(1, epochs * epoch_length + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            if not scheduler.by_epoch or iteration % epoch_length == 0:
                scheduler.step()
    return rates
