"""Hosts as parameters of tests; those that are not installed are skipped with the reason."""

from importlib.util import find_spec

import pytest

from mmvitlin.engine.hosts import HOSTS

INSTALLED = [host for host in HOSTS if find_spec(host)]
EVERY_HOST = [
    pytest.param(
        host, marks=pytest.mark.skipif(host not in INSTALLED, reason=f'{host} is not installed')
    )
    for host in HOSTS
]
