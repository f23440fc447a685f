"""Wheels and sdists contain all files that mim and the model index need, and no others."""

import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from config_reading import ALL_CONFIGS
from tiny_run import ROOT

SOURCES = ('LICENSE', 'README.md', 'model-index.yml', 'pyproject.toml', 'setup.py')
BUILD = """
import sys
from setuptools import build_meta

print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))
"""


def build(kind, source, target):
    """Build a 'wheel' or 'sdist' as pip does without isolation; return its path."""
    command = [sys.executable, '-c', BUILD, kind, str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy of the sources, which building leaves files in."""
    folder = tmp_path_factory.mktemp('checkout')
    skip = shutil.ignore_patterns('__pycache__', '.mim')
    for name in ('configs', 'mmvitlin', 'tools'):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope='module')
def wheel(checkout, tmp_path_factory):
    return build('wheel', checkout, tmp_path_factory.mktemp('dist'))


@pytest.fixture(scope='module')
def sdist(checkout, tmp_path_factory):
    return build('sdist', checkout, tmp_path_factory.mktemp('dist'))


def carried():
    """Return the files that `.mim` must contain."""
    tools = [path for path in (ROOT / 'tools').rglob('*') if path.suffix in ('.py', '.sh')]
    metafiles = [*(ROOT / 'configs').rglob('*.yml'), *(ROOT / 'configs').rglob('*.md')]
    bases = (ROOT / 'configs/_base_').rglob('*.py')
    paths = [path.relative_to(ROOT).as_posix() for path in (*tools, *metafiles, *bases)]
    return {'model-index.yml', *ALL_CONFIGS, *paths}


def names_of(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_carries_configs_tools_and_index(wheel):
    prefix = 'mmvitlin/.mim/'
    found = {name.removeprefix(prefix) for name in names_of(wheel) if name.startswith(prefix)}
    assert found == carried()


def test_a_wheel_installs_one_package(wheel):
    tops = {name.split('/')[0] for name in names_of(wheel)}
    assert len(tops) == 2
    assert {top for top in tops if not top.endswith('.dist-info')} == {'mmvitlin'}


def test_a_wheel_tells_type_checkers_that_the_package_is_typed(wheel):
    assert 'mmvitlin/py.typed' in names_of(wheel)


def test_a_wheel_keeps_what_runs_runnable(wheel):
    for info in zipfile.ZipFile(wheel).infolist():
        if info.filename.endswith('.sh'):
            assert (info.external_attr >> 16) & 0o100, info.filename


def test_an_sdist_carries_the_same_and_builds_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter='data')
    (source,) = tmp_path.iterdir()
    mim = source / 'mmvitlin/.mim'
    found = {path.relative_to(mim).as_posix() for path in mim.rglob('*') if path.is_file()}
    assert found == carried()
    again = build('wheel', source, tmp_path)
    assert names_of(again) == names_of(wheel)


def test_a_config_that_is_gone_is_in_no_later_wheel(checkout, wheel, tmp_path):
    gone = checkout / 'configs/quickstart/gone.py'
    gone.write_text('')
    assert 'mmvitlin/.mim/configs/quickstart/gone.py' in names_of(
        build('wheel', checkout, tmp_path)
    )
    gone.unlink()
    assert names_of(build('wheel', checkout, tmp_path)) == names_of(wheel)


def test_an_editable_installation_copies_nothing(checkout, tmp_path):
    editable = build('editable', checkout, tmp_path)
    assert not [name for name in names_of(editable) if 'configs' in name or '.mim' in name]
    assert not (checkout / 'mmvitlin/.mim').exists()
