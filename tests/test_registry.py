"""The registries: which spellings of a name build, in which hosts, and what importing costs.

Whatever depends on what was imported before runs in a fresh interpreter.
"""

import importlib
import re

import mmengine.registry
import pytest
from fresh_python import run_python

import mmvitlin.registry
from mmvitlin.registry import NAMES

HOSTS = ('mmpretrain', 'mmdet', 'mmseg')
TINY = 'arch=dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4)'


@pytest.mark.parametrize('scope', [*HOSTS, 'mmengine'])
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


@pytest.mark.parametrize('scope', HOSTS)
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
        assert 'mmvitlin.models' not in sys.modules
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
        print('hosts:', *(set({HOSTS}) & sys.modules.keys()))
        """
    )
    assert 'hosts:\n' in output


def test_importing_the_package_imports_nothing_else():
    """So it costs milliseconds beyond torch and mmengine."""
    output = run_python(
        """
        import torch, mmengine

        before = set(sys.modules)
        import mmvitlin

        print('new:', *sorted(set(sys.modules) - before))
        """
    )
    new = re.search('^new: (.*)$', output, re.MULTILINE)[1].split()
    ours = {'registry', 'version', 'zoo', 'zoo.import_hook'}
    assert set(new) == {'mmvitlin', *(f'mmvitlin.{name}' for name in ours)}


@pytest.mark.parametrize('registry', NAMES, ids=lambda registry: registry.name)
def test_names_agree_at_the_root_in_our_scope_and_in_the_list(registry):
    assert all(registry.get(name) for name in NAMES[registry])
    assert set(registry.module_dict) == set(NAMES[registry])
    assert len(set(NAMES[registry])) == len(NAMES[registry])
    ours = {
        name
        for name, module in registry.parent.module_dict.items()
        if module.__module__.partition('.')[0] == 'mmvitlin'
    }
    assert ours == set(NAMES[registry])


def test_every_registry_of_ours_is_listed():
    registries = [
        value
        for value in vars(mmvitlin.registry).values()
        if isinstance(value, mmengine.registry.Registry) and value.scope == 'mmvitlin'
    ]
    assert {id(registry) for registry in registries} == {id(registry) for registry in NAMES}
    for registry in NAMES:
        assert registry.parent is getattr(mmengine.registry, _variable(registry))


def _variable(registry):
    """The name of the variable that holds `registry` in mmvitlin.registry."""
    return next(
        key for key, value in vars(mmvitlin.registry).items() if value is registry and key.isupper()
    )


@pytest.mark.parametrize(
    ('registry', 'name'),
    [(registry, name) for registry, names in NAMES.items() for name in names],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_a_bare_name_hands_its_arguments_on_to_the_class(registry, name, monkeypatch):
    registry.get(name)
    monkeypatch.setitem(registry.module_dict, name, lambda *args, **kwargs: (args, kwargs))
    build = registry.parent.module_dict[name]
    assert build(1, 'two', three=3) == ((1, 'two'), dict(three=3))
    assert build.__name__ == name


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
    assert "write type='mmvitlin.L2ViT' for ours" in output
    assert 'ours: mmvitlin.models.backbones.l2vit' in output


def test_reloading_the_registries_does_no_harm(capfd):
    registries = list(NAMES)
    before = [dict(registry.module_dict) for registry in registries]
    reloaded = importlib.reload(mmvitlin.registry)
    assert list(reloaded.NAMES) == registries
    assert [dict(registry.module_dict) for registry in registries] == before
    for registry in registries:
        for name in reloaded.NAMES[registry]:
            assert registry.parent.module_dict[name].__module__ == 'mmvitlin.registry'
    model = mmengine.registry.MODELS.build(
        dict(type='L2ViT', arch=dict(embed_dims=(8,) * 4, depths=(1,) * 4, num_heads=(1,) * 4))
    )
    assert type(model) is reloaded.MODELS.get('L2ViT')
    assert 'already registered' not in ''.join(capfd.readouterr())
