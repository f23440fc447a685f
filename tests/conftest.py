"""What every test starts from: one thread, the same random numbers, and its own default scope."""

import pytest
import torch
from mmengine.registry import DefaultScope

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def default_scope():
    """Restore after a test the scope that runners and inferencers of another host set for good."""
    instances = DefaultScope._instance_dict.copy()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(instances)


@pytest.fixture
def mmpretrain_scope():
    """The scope in which mmpretrain's classifiers find their parts."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield
