"""The registries: names that build in each host, and side effects of imports.

Whatever depends on what was imported before runs in a fresh interpreter.
"""

import pytest
from fresh_python import run_python
from installed_hosts import EVERY_HOST

import mmvitlin.registry
from mmvitlin.engine.hosts import HOSTS
from mmvitlin.registry import ChildRegistry

pytestmark = pytest.mark.slow

REGISTRIES = [
    value for value in vars(mmvitlin.registry).values() if isinstance(value, ChildRegistry)
]
TINY = 'arch=dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4)'


@pytest.mark.parametrize('scope', [*EVERY_HOST, 'mmengine'])
def test_prefixed_name_builds_in_a_host_alone_without_custom_imports(scope):
    output = run_python(
        f"""
        from mmengine.registry import init_default_scope
        from {scope}.registry import MODELS

        init_default_scope({scope!r})
        assert 'mmvitlin' not in sys.modules
        model = MODELS.build(dict(type='mmvitlin.L2ViT', {TINY}))
        print('built', type(model).__module__)
        """,
        without=[host for host in HOSTS if host != scope],
    )
    assert 'built mmvitlin.models.backbones.l2vit' in output


@pytest.mark.parametrize('scope', EVERY_HOST)
def test_bare_name_builds_in_a_host_alone_after_custom_imports(scope, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(
        f'default_scope = {scope!r}\n'
        "custom_imports = dict(imports=['mmvitlin'], allow_failed_imports=False)\n"
        f"model = dict(type='L2ViT', {TINY})\n"
    )
    output = run_python(
        f"""
        from mmengine.config import Config
        from mmengine.registry import init_default_scope
        from {scope}.registry import MODELS

        config = Config.fromfile({str(config)!r})
        init_default_scope(config.default_scope)
        model = MODELS.build(config.model)
        print('built', type(model).__module__)
        """,
        without=[host for host in HOSTS if host != scope],
    )
    assert 'built mmvitlin.models.backbones.l2vit' in output


def test_backbones_build_without_importing_what_extends_a_host():
    output = run_python(
        f"""
        from mmengine.registry import MODELS

        MODELS.build(dict(type='mmvitlin.L2ViT', {TINY}))
        print('hosts:', *(set({list(HOSTS)}) & sys.modules.keys()))
        """
    )
    assert 'hosts:\n' in output


def test_importing_the_package_imports_no_host():
    output = run_python(
        f"""
        import mmvitlin

        print('hosts:', *(set({list(HOSTS)}) & sys.modules.keys()))
        """
    )
    assert 'hosts:\n' in output


@pytest.mark.parametrize('registry', REGISTRIES, ids=lambda registry: registry.name)
def test_every_class_stands_under_its_bare_name_at_the_root(registry):
    registry.get('mmvitlin.Unknown')  # imports what extends a host
    assert registry.module_dict
    for name, cls in registry.module_dict.items():
        assert name == cls.__name__
        assert registry.parent.module_dict[name] is cls


EXTENSIONS = {'mmpretrain': 'DistillationClassifier', 'mmdet': 'YOLOSHead'}


@pytest.mark.parametrize('host', EXTENSIONS)
@pytest.mark.parametrize('imports', ['import mmvitlin', 'import {host}, mmvitlin'])
def test_what_extends_a_host_is_found_whichever_is_imported_first(imports, host):
    name = EXTENSIONS[host]
    output = run_python(
        f"""
        {imports.format(host=host)}
        from mmengine.registry import MODELS

        found = MODELS.get('mmvitlin.{name}')
        print('found', found.__name__, MODELS.get('{name}') is found)
        """
    )
    assert f'found {name} True' in output


@pytest.mark.parametrize('host', EXTENSIONS)
def test_what_extends_a_host_is_unknown_where_that_is_missing(host):
    output = run_python(
        f"""
        from mmengine.registry import MODELS

        print('found', MODELS.get('mmvitlin.{EXTENSIONS[host]}'))
        """,
        without=[host],
    )
    assert 'found None' in output


def test_a_name_that_another_package_has_taken_is_left_alone_with_a_message():
    output = run_python(
        f"""
        from mmengine.registry import MODELS

        @MODELS.register_module()
        class L2ViT:
            pass

        import mmvitlin

        assert type(MODELS.build(dict(type='L2ViT'))) is L2ViT
        print('ours:', type(MODELS.build(dict(type='mmvitlin.L2ViT', {TINY}))).__module__)
        """
    )
    assert "'L2ViT' is already registered by __main__" in output
    assert "write type='mmvitlin.L2ViT' for the class of mmvitlin" in output
    assert 'ours: mmvitlin.models.backbones.l2vit' in output


def test_without_mmcvs_ops_an_installed_mmdet_is_left_alone():
    output = run_python(
        f"""
        for name in [name for name in sys.modules if name.startswith('mmcv.ops')]:
            del sys.modules[name]
        sys.modules['mmcv._ext'] = None  # as with mmcv-lite

        import mmdet
        import mmpretrain
        import mmvitlin

        model = mmvitlin.registry.MODELS.build(dict(type='mmvitlin.L2ViT', {TINY}))
        print('built', type(model).__name__, mmvitlin.registry.MODELS.get('YOLOSHead'))
        """
    )
    assert 'built L2ViT None' in output
