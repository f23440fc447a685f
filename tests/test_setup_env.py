"""tools/setup_env.py: what it checks, what it runs again, and what it leaves alone.

Nothing is downloaded: the stages are replaced by a record of which ran.
"""

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'tools/setup_env.py'
STAGES = ['torch', 'mmcv', 'hosts', 'project']
DISK = namedtuple('DISK', 'total used free')


@pytest.fixture
def repo(tmp_path):
    """A copy of the files that the set-up reads."""
    folder = tmp_path / 'repo'
    (folder / 'tools').mkdir(parents=True)
    shutil.copy(SCRIPT, folder / 'tools')
    shutil.copy(ROOT / 'requirements.txt', folder)
    (folder / 'pyproject.toml').write_text('[project]\nname = "stand-in"\n')
    return folder


@pytest.fixture
def script(repo, monkeypatch):
    """The copy as a module, on a machine that sets none of its variables."""
    for name in ('CXX', 'MAX_JOBS', 'MMVITLIN_VENV'):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location('setup_env', repo / 'tools/setup_env.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ran(script, monkeypatch):
    """The names of the stages that ran; of their work, only an empty environment is made."""
    names = []

    def record(name):
        def install(venv, python, requirements):
            names.append(name)
            if name == 'torch':
                subprocess.run([python, '-m', 'venv', '--without-pip', venv], check=True)

        return install

    for name, (_, text) in script.STAGES.items():
        monkeypatch.setitem(script.STAGES, name, (record(name), text))
    monkeypatch.setattr(script, 'GIB_FOR_TORCH', 0)
    monkeypatch.setattr(script, 'GIB_FOR_THE_REST', 0)
    return names


def fake_python(folder, version, lacking=''):
    """Write a program that answers the probe as an interpreter of this version."""
    program = folder / f'fake-{version}'
    program.write_text(f"#!/bin/sh\necho '/fake/python|{version}'\necho '{lacking}'\n")
    program.chmod(0o755)
    return str(program)


def files_under(folder):
    return sorted(str(path) for path in folder.rglob('*') if '__pycache__' not in str(path))


def test_every_package_that_a_stage_asks_for_is_in_requirements(script):
    assert {*script.TORCH_PACKAGES, 'mmcv', script.HEADLESS_OPENCV} <= set(
        script.read_requirements()
    )


STACKS = sorted((ROOT / 'tests/stacks').glob('*.txt'))


@pytest.mark.parametrize('file', STACKS, ids=lambda file: file.stem)
def test_a_stack_has_what_every_stage_asks_for(script, file):
    lines = script.read_requirements(file)
    assert {*script.TORCH_PACKAGES, script.HEADLESS_OPENCV, 'pytest'} <= set(lines)
    assert script.find_mmcv(file) in lines
    assert script.read_pythons(file)


def test_another_file_names_its_pythons_and_what_changed_in_it(script, ran, repo, tmp_path):
    file = repo / 'stack.txt'
    version = '.'.join(map(str, sys.version_info[:2]))
    text = (repo / 'requirements.txt').read_text().replace('mmcv==', 'mmcv-lite==')
    file.write_text(re.sub('# Python: .*', f'# Python: {version}, 3.99', text))
    script.set_up(repo / 'venv', sys.executable, file)
    ran.clear()
    file.write_text(file.read_text().replace('mmcv-lite==', 'mmcv-lite==9'))
    script.set_up(repo / 'venv', sys.executable, file)
    assert ran == STAGES[1:]
    _, _, [problem] = script.choose_python(repo / 'venv', fake_python(tmp_path, '3.98'), file)
    assert f'need one of {version}, 3.99' in problem


def test_both_builds_of_cv2_have_one_version(script):
    lines = script.read_requirements()
    assert lines['opencv-python'].split('==')[1] == lines[script.HEADLESS_OPENCV].split('==')[1]


@pytest.mark.parametrize('file', ['tools/setup_env.py', 'Makefile', '.ci/run'])
def test_no_pinned_version_is_repeated_elsewhere(script, file):
    versions = [x.split('==')[1] for x in script.read_requirements().values() if '==' in x]
    assert versions
    assert [v for v in versions if v in (ROOT / file).read_text()] == []


def test_the_script_parses_on_python_3_8():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize(
    ('version', 'lacking', 'said'),
    [
        ('3.8', '', 'found 3.8 (/fake/python), need one of 3.12, 3.11, 3.10'),
        ('3.13', '', 'found 3.13'),
        ('3.12', 'the module venv', 'lacks the module venv'),
    ],
)
def test_an_unsuitable_python_is_named_with_what_is_needed(
    script, tmp_path, version, lacking, said
):
    asked_for = fake_python(tmp_path, version, lacking)
    _, _, [problem] = script.choose_python(tmp_path / 'none', asked_for)
    assert said in problem


def test_an_unsuitable_running_python_gives_way_to_one_on_path(script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', fake_python(tmp_path, '3.13'))
    Path(fake_python(tmp_path, '3.11')).rename(tmp_path / 'python3.11')
    (tmp_path / 'python3.12').write_text('#!/bin/sh\nexit 127\n')  # as of pyenv, without a Python
    (tmp_path / 'python3.12').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    assert script.choose_python(tmp_path / 'none', None)[1:] == ('3.11', [])


def test_a_python_that_does_not_run_is_named(script, tmp_path):
    _, _, [problem] = script.choose_python(tmp_path / 'none', '/nonexistent/python')
    assert '/nonexistent/python does not run' in problem


def test_the_real_interpreter_passes_the_probe(script, tmp_path):
    version = '.'.join(map(str, sys.version_info[:2]))
    assert script.choose_python(tmp_path / 'none', sys.executable)[1:] == (version, [])


def test_all_that_is_missing_is_named_at_once_and_nothing_is_made(
    script, repo, tmp_path, monkeypatch
):
    monkeypatch.setenv('CXX', '/nonexistent/c++')
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: DISK(0, 0, 2**30))
    before = files_under(repo)
    with pytest.raises(script.SetupError) as error:
        script.set_up(repo / '.venv', fake_python(tmp_path, '3.13'))
    report = str(error.value).splitlines()
    assert [line.split(':')[0].strip() for line in report[1:]] == ['Python', 'C++ compiler', 'disk']
    assert files_under(repo) == before


def test_a_failed_check_ends_the_command_without_a_traceback(repo, tmp_path):
    done = subprocess.run(
        [sys.executable, 'tools/setup_env.py', '--python', fake_python(tmp_path, '3.8')],
        cwd=repo,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'found 3.8' in done.stderr
    assert 'Traceback' not in done.stderr


def test_an_environment_made_by_something_else_is_left_alone(script, ran, repo):
    foreign = repo / '.venv/precious'
    foreign.parent.mkdir()
    foreign.touch()
    with pytest.raises(script.SetupError, match='was not made by this set-up'):
        script.set_up(repo / '.venv', sys.executable)
    assert foreign.exists()
    assert ran == []


def test_the_first_call_runs_every_stage_and_the_second_none(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGES
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGES


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'first'),
    [
        ('requirements.txt', 'torch==', 'torch==9', 'torch'),
        ('requirements.txt', 'mmcv==', 'mmcv==9', 'mmcv'),
        ('requirements.txt', 'mmdet==', 'mmdet==9', 'hosts'),
        ('pyproject.toml', 'stand-in', 'other', 'project'),
        ('.venv/.setup/hosts', '', 'half a stamp', 'hosts'),
    ],
)
def test_what_changed_runs_its_stage_and_those_after_it(script, ran, repo, file, old, new, first):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    text = (repo / file).read_text()
    (repo / file).write_text(text.replace(old, new, 1))
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGES[STAGES.index(first) :]


@pytest.mark.parametrize('name', STAGES)
def test_a_call_cut_off_in_a_stage_goes_on_with_that_stage(script, ran, repo, name, monkeypatch):
    def cut_off(venv, python, requirements):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(script.STAGES, name, (cut_off, ''))
        script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGES[STAGES.index(name) :]


def test_an_environment_that_moved_or_lost_its_python_is_made_anew(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    (repo / '.venv').rename(repo / 'moved')
    script.set_up(repo / 'moved', sys.executable)
    (repo / 'moved/bin/python').unlink()
    script.set_up(repo / 'moved', sys.executable)
    assert ran == 3 * STAGES


def test_sweep_removes_what_pip_did_not_finish_and_keeps_the_rest(script, tmp_path):
    packages = tmp_path / 'lib/python3.11/site-packages'
    for name in ('done-1.dist-info', 'half-1.dist-info', '~umpy', 'half'):
        (packages / name).mkdir(parents=True)
    (packages / 'done-1.dist-info/RECORD').touch()
    script.sweep(tmp_path)
    assert sorted(path.name for path in packages.iterdir()) == ['done-1.dist-info', 'half']


def test_pip_keeps_its_settings_but_not_a_foreign_pythonpath(script, tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_FIND_LINKS', '/some/wheels')
    monkeypatch.setenv('PYTHONPATH', '/some/packages')
    code = 'import json, os; open("env.json", "w").write(json.dumps(dict(os.environ)))'
    script.run(tmp_path, sys.executable, '-c', code, MAX_JOBS='3')
    found = json.loads((script.ROOT / 'env.json').read_text())
    assert (found['PIP_FIND_LINKS'], found['MAX_JOBS']) == ('/some/wheels', '3')
    assert found['TMPDIR'].startswith(str(tmp_path))
    assert 'PYTHONPATH' not in found


def test_a_second_call_waits_and_says_so(script, repo):
    code = 'import setup_env, sys, pathlib; setup_env.set_up(pathlib.Path(sys.argv[1]), None)'
    with script.locked():
        waiting = subprocess.Popen(
            [sys.executable, '-c', code, repo / '.venv'],
            cwd=repo / 'tools',
            stdout=subprocess.PIPE,
            text=True,
        )
        assert 'waiting for it' in waiting.stdout.readline()
        waiting.kill()
        waiting.communicate()
