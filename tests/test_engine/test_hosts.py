"""Names in `HOSTS` are registered in the hosts; SyncBN becomes BN on a CPU."""

import importlib

import pytest
from installed_hosts import EVERY_HOST
from mmengine.config import ConfigDict
from mmengine.registry import FUNCTIONS, METRICS, MODELS, DefaultScope

from mmvitlin.engine.hosts import HOSTS
from mmvitlin.engine.launcher import _replace_sync_bn


@pytest.mark.parametrize('scope', EVERY_HOST)
def test_every_name_is_registered(scope):
    importlib.import_module(scope)
    host = HOSTS[scope]
    named = [
        (METRICS, host.dump_metric),
        (MODELS, host.tta_model and host.tta_model['type']),
        (FUNCTIONS, host.collate_fn and host.collate_fn['type']),
    ]
    with DefaultScope.overwrite_default_scope(scope):
        for registry, name in named:
            with registry.switch_scope_and_registry(None) as scoped:
                assert name is None or scoped.get(name) is not None, name


def test_every_sync_bn_becomes_bn_on_a_cpu():
    head = dict(norm_cfg=dict(type='SyncBN', requires_grad=True))
    model = ConfigDict(decode_head=head, auxiliary_head=[head, dict(norm_cfg=dict(type='GN'))])
    assert _replace_sync_bn(model)
    assert model.decode_head.norm_cfg == dict(type='BN', requires_grad=True)
    assert [one.norm_cfg.type for one in model.auxiliary_head] == ['BN', 'GN']
    assert not _replace_sync_bn(model)
