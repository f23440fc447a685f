"""State of every test at its start: one thread, the same random numbers, a default scope."""

import functools
import gc
import time
from types import SimpleNamespace

import mmengine.config.config
import mmengine.runner.loops
import pytest
import torch
from mmengine.registry import DefaultScope
from tiny_run import forget_visualizers
from yapf.yapflib.yapf_api import FormatCode

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    """Save MMEngine's runs time that tests have not.

    A run formats its config six times, 0.25 s each, and one by iteration sleeps 2 s at the end of
    each pass over the data.
    """
    if hasattr(mmengine.config.config, 'FormatCode'):  # OneDL's imports it in a method
        monkeypatch.setattr(mmengine.config.config, 'FormatCode', format_once)
    sleepless = SimpleNamespace(**{**vars(time), 'sleep': lambda seconds: None})
    monkeypatch.setattr(mmengine.runner.loops, 'time', sleepless)


@functools.cache
def _format(text, style, **options):
    return FormatCode(text, style_config=dict(style), **options)


def format_once(text, style_config, **options):
    return _format(text, tuple(style_config.items()), **options)


def pytest_collection_finish(session):
    """Leave the imported modules out of the garbage collections of MMEngine's datasets."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def default_scope():
    """Restore after a test the scope and the visualizer that runners set for good."""
    instances = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(instances)
    forget_visualizers()


@pytest.fixture
def mmpretrain_scope():
    """The scope in which mmpretrain's classifiers find their parts."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield
