"""tools/setup_env.py: what it checks, what it runs again, and what it leaves alone.

Nothing is downloaded here: the stages' work is replaced by a record of which stages ran.
"""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'tools' / 'setup_env.py'
STAGE_NAMES = ['torch', 'mmcv', 'hosts', 'project']
DISK = namedtuple('DISK', 'total used free')


@pytest.fixture
def repo(tmp_path):
    """A copy of the files that the set-up is made of."""
    folder = tmp_path / 'repo'
    (folder / 'tools').mkdir(parents=True)
    shutil.copy(SCRIPT, folder / 'tools')
    shutil.copy(ROOT / 'requirements.txt', folder)
    (folder / 'pyproject.toml').write_text('[project]\nname = "stand-in"\n')
    return folder


@pytest.fixture
def script(repo, monkeypatch):
    """The copy as a module, with CXX, CUDA_HOME and MAX_JOBS as on a machine that sets none."""
    for name in ('CXX', 'CUDA_HOME', 'MAX_JOBS', 'MMVITLIN_VENV'):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location('setup_env', repo / 'tools' / 'setup_env.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'setup_env', module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, 'cuda_for', lambda venv: None)
    return module


@pytest.fixture
def ran(script, monkeypatch):
    """Names of the stages that ran; of their work, only an environment without pip is made."""
    names = []

    def recorder(name):
        def install(setup):
            names.append(name)
            if name == 'torch':
                make_venv(setup.venv)

        return install

    stages = tuple(replace(s, install=recorder(s.name), gib=0) for s in script.STAGES)
    monkeypatch.setattr(script, 'STAGES', stages)
    return names


def make_venv(folder):
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder], check=True)


def fake_python(folder, version):
    """A program that answers the probe as an interpreter of this version would."""
    facts = {'path': '/fake/python', 'version': version, 'has_venv': True, 'header': sys.executable}
    program = folder / 'fake-python'
    program.write_text(f"#!/bin/sh\necho '{json.dumps(facts)}'\n")
    program.chmod(0o755)
    return program


def interpreter(script, version=(3, 11, 7), has_venv=True, header=__file__):
    return script.Interpreter('/some/python', version, has_venv, Path(header))


def files_under(folder):
    return sorted(str(path) for path in folder.rglob('*') if '__pycache__' not in str(path))


# requirements.txt


def test_pins_are_those_of_the_issue(script):
    lines = script.read_requirements((ROOT / 'requirements.txt').read_text())
    pins = {
        'torch': '2.10.0',
        'torchvision': '0.25.0',
        'mmengine': '0.10.7',
        'mmcv': '2.1.0',
        'mmdet': '3.3.0',
        'mmsegmentation': '1.2.2',
        'mmpretrain': '1.2.0',
    }
    assert {name: lines[name] for name in pins} == {n: f'{n}=={v}' for n, v in pins.items()}


def test_every_package_a_stage_asks_for_is_in_requirements(script):
    lines = script.read_requirements((ROOT / 'requirements.txt').read_text())
    assert {*script.TORCH_PACKAGES, script.MMCV, script.HEADLESS_OPENCV} <= set(lines)


def test_both_builds_of_cv2_have_one_version(script):
    lines = script.read_requirements((ROOT / 'requirements.txt').read_text())
    assert lines['opencv-python'].split('==')[1] == lines[script.HEADLESS_OPENCV].split('==')[1]


@pytest.mark.parametrize('second', ['mmcv', 'mmcv>=2', 'MMCV==2.2.0'])
def test_a_distribution_named_twice_is_an_error(script, second):
    with pytest.raises(script.SetupError, match='names mmcv twice'):
        script.read_requirements(f'mmcv==2.1.0\n{second}\n')


def test_comments_and_spelling_do_not_matter_to_requirements(script):
    text = '# a comment\n\nftfy>=6,<7  # why\nPytest_Xdist\n'
    assert script.read_requirements(text) == {'ftfy': 'ftfy>=6,<7', 'pytest-xdist': 'Pytest_Xdist'}


@pytest.mark.parametrize('file', ['tools/setup_env.py', 'Makefile', '.ci/run'])
def test_no_pinned_version_is_repeated_elsewhere(script, file):
    lines = script.read_requirements((ROOT / 'requirements.txt').read_text())
    versions = [line.split('==')[1] for line in lines.values() if '==' in line]
    assert versions
    assert [v for v in versions if v in (ROOT / file).read_text()] == []


# What the machine has


def test_script_parses_on_python_3_8():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize('version', [(3, 10, 0), (3, 11, 7), (3, 12, 9)])
def test_python_3_10_to_3_12_suit(script, version):
    assert script.python_problems(interpreter(script, version)) == []


@pytest.mark.parametrize('version', [(3, 8, 18), (3, 9, 18), (3, 13, 0), (4, 0, 0)])
def test_any_other_python_is_named_with_what_is_needed(script, version):
    [problem] = script.python_problems(interpreter(script, version))
    assert 'found {}.{}.{} '.format(*version) in problem
    assert 'need 3.10 to 3.12' in problem


def test_missing_venv_module_and_header_are_both_named(script):
    python = interpreter(script, has_venv=False, header='/nonexistent/Python.h')
    venv, header = script.python_problems(python)
    assert 'ensurepip' in venv
    assert '/nonexistent/Python.h' in header


def test_an_unsuitable_running_python_gives_way_to_one_on_path(script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', str(fake_python(tmp_path, (3, 13, 0))))
    fake_python(tmp_path, (3, 11, 1)).rename(tmp_path / 'python3.11')
    shim = tmp_path / 'python3.12'  # as of pyenv, with no Python behind it
    shim.write_text('#!/bin/sh\nexit 127\n')
    shim.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path))
    fake_python(tmp_path, (3, 13, 0))
    python, problems = script.choose_python(tmp_path / 'none', None)
    assert (python.version, problems) == ((3, 11, 1), [])


def test_the_python_asked_for_is_not_replaced_by_another(script, tmp_path):
    asked_for = str(fake_python(tmp_path, (3, 13, 0)))
    python, problems = script.choose_python(tmp_path / 'none', asked_for)
    assert python.version == (3, 13, 0)
    assert len(problems) == 1


def test_a_python_that_does_not_run_is_named(script, tmp_path):
    _, [problem] = script.choose_python(tmp_path / 'none', '/nonexistent/python')
    assert '/nonexistent/python does not run' in problem


def test_compiler_in_cxx_is_the_one_tried(script, monkeypatch):
    assert script.compiler_problem() is None
    monkeypatch.setenv('CXX', '/nonexistent/c++')
    assert 'CXX=/nonexistent/c++' in script.compiler_problem()


def test_a_compiler_that_fails_is_no_compiler(script, monkeypatch):
    monkeypatch.setenv('CXX', shutil.which('false'))
    assert script.find_compiler() is None


def test_disk_is_measured_where_the_environment_will_be(script, tmp_path, monkeypatch):
    asked = []

    def disk_usage(place):
        asked.append(place)
        return DISK(0, 0, 5 * 2**30)

    monkeypatch.setattr(shutil, 'disk_usage', disk_usage)
    venv = tmp_path / 'not' / 'there' / 'yet'
    assert 'found 5.0 GiB free' in script.disk_problem(venv, 6, reclaimable=0)
    assert script.disk_problem(venv, 5, reclaimable=0) is None
    assert script.disk_problem(venv, 6, reclaimable=2**30) is None
    assert set(asked) == {tmp_path}


def test_all_that_is_missing_is_told_at_once_and_nothing_is_made(
    script, repo, tmp_path, monkeypatch
):
    monkeypatch.setenv('CXX', '/nonexistent/c++')
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: DISK(0, 0, 2**30))
    before = files_under(repo)
    with pytest.raises(script.SetupError) as error:
        script.set_up(repo / '.venv', str(fake_python(tmp_path, (3, 13, 0))))
    report = str(error.value).splitlines()
    assert [line.split(':')[0].strip() for line in report[1:]] == ['Python', 'C++ compiler', 'disk']
    assert files_under(repo) == before


def test_a_failed_check_ends_the_command_with_a_report_and_no_traceback(repo, tmp_path):
    before = files_under(repo)
    done = subprocess.run(
        [sys.executable, 'tools/setup_env.py', '--python', fake_python(tmp_path, (3, 8, 18))],
        env={**os.environ, 'CXX': '/nonexistent/c++', 'MMVITLIN_VENV': '.venv'},
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'found 3.8.18' in done.stderr
    assert 'CXX=/nonexistent/c++' in done.stderr
    assert 'Traceback' not in done.stderr
    assert files_under(repo) == before


def test_an_environment_made_by_something_else_is_left_alone(script, ran, repo):
    foreign = repo / '.venv' / 'precious'
    foreign.parent.mkdir()
    foreign.touch()
    with pytest.raises(script.SetupError, match='was not made by this set-up'):
        script.set_up(repo / '.venv', sys.executable)
    assert foreign.exists()
    assert ran == []


# CUDA


@pytest.mark.parametrize(
    ('release', 'header', 'suits'),
    [('12.8', True, True), ('13.0', True, False), ('12.8', False, False)],
)
def test_a_toolkit_needs_the_version_of_torch_and_its_headers(
    script, tmp_path, monkeypatch, release, header, suits
):
    for folder in ('bin', 'include'):
        (tmp_path / folder).mkdir()
    nvcc = tmp_path / 'bin' / 'nvcc'
    nvcc.write_text(f'#!/bin/sh\necho "Cuda compilation tools, release {release}, V{release}.9"\n')
    nvcc.chmod(0o755)
    if header:
        (tmp_path / 'include' / 'cuda_runtime.h').touch()
    monkeypatch.setenv('CUDA_HOME', str(tmp_path))
    assert script.cuda_toolkit('12') == (tmp_path if suits else None)


def test_mmcv_is_built_again_when_cuda_appears_but_not_when_it_goes(script, ran, repo, monkeypatch):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    monkeypatch.setattr(script, 'cuda_for', lambda venv: Path('/cuda'))
    script.set_up(repo / '.venv', sys.executable)
    assert ran == ['mmcv', 'hosts', 'project']
    ran.clear()
    monkeypatch.setattr(script, 'cuda_for', lambda venv: None)
    script.set_up(repo / '.venv', sys.executable)
    assert ran == []


# Which stages run


def test_first_call_runs_every_stage_and_the_second_none(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGE_NAMES
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGE_NAMES


@pytest.mark.parametrize(
    ('old', 'new', 'first'),
    [
        ('torch==2.10.0', 'torch==2.11.0', 'torch'),
        ('mmcv==2.1.0', 'mmcv==2.0.1', 'mmcv'),
        ('mmdet==3.3.0', 'mmdet==3.2.0', 'hosts'),
        ('pytest-xdist', 'pytest-timeout', 'hosts'),
    ],
)
def test_a_changed_pin_runs_its_stage_and_those_after_it(script, ran, repo, old, new, first):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    text = (repo / 'requirements.txt').read_text()
    assert old in text
    (repo / 'requirements.txt').write_text(text.replace(old, new))
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGE_NAMES[STAGE_NAMES.index(first) :]


def test_a_changed_project_file_installs_the_project_again(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    (repo / 'pyproject.toml').write_text('[project]\nname = "other"\n')
    script.set_up(repo / '.venv', sys.executable)
    assert ran == ['project']


@pytest.mark.parametrize('name', STAGE_NAMES)
def test_a_stamp_that_does_not_match_runs_the_stage_again(script, ran, repo, name):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    (repo / '.venv' / '.setup' / name).write_text('half a st')
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGE_NAMES[STAGE_NAMES.index(name) :]


def cut_off_in(name, script, venv):
    """Call the set-up, and interrupt it in a stage."""

    def cut_off(setup):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stages = [replace(s, install=cut_off) if s.name == name else s for s in script.STAGES]
        patch.setattr(script, 'STAGES', tuple(stages))
        script.set_up(venv, sys.executable)


@pytest.mark.parametrize('name', STAGE_NAMES)
def test_a_call_cut_off_in_a_stage_goes_on_with_that_stage(script, ran, repo, name):
    cut_off_in(name, script, repo / '.venv')
    ran.clear()
    script.set_up(repo / '.venv', sys.executable)
    assert ran == STAGE_NAMES[STAGE_NAMES.index(name) :]


def test_a_pin_changed_back_after_a_cut_off_still_runs_its_stage(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    text = (repo / 'requirements.txt').read_text()
    (repo / 'requirements.txt').write_text(text.replace('mmdet==3.3.0', 'mmdet==3.2.0'))
    cut_off_in('hosts', script, repo / '.venv')
    (repo / 'requirements.txt').write_text(text)
    ran.clear()
    script.set_up(repo / '.venv', sys.executable)
    assert ran == ['hosts', 'project']


def test_an_environment_whose_python_does_not_run_is_made_anew(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    python = repo / '.venv' / 'bin' / 'python'
    python.unlink()
    python.symlink_to('/nonexistent/python')
    script.set_up(repo / '.venv', None)
    assert ran == STAGE_NAMES


def test_an_environment_that_moved_is_made_anew(script, ran, repo):
    script.set_up(repo / '.venv', sys.executable)
    ran.clear()
    (repo / '.venv').rename(repo / 'moved')
    script.set_up(repo / 'moved', sys.executable)
    assert ran == STAGE_NAMES


def test_a_finished_environment_returns_at_once_without_pip(script, ran, repo):
    script.set_up(repo / '.venv', None)
    assert list((repo / '.venv').glob('bin/pip*')) == []  # a call of pip would fail
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, 'tools/setup_env.py', '--venv', '.venv'],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert 'is ready' in done.stdout
    assert time.monotonic() - started < 5


# What a stage starts from


def test_sweep_removes_what_pip_did_not_finish_and_keeps_the_rest(script, tmp_path):
    packages = tmp_path / 'lib' / 'python3.11' / 'site-packages'
    for name in ('done-1.dist-info', 'half-1.dist-info', '~umpy', 'half'):
        (packages / name).mkdir(parents=True)
    (packages / 'done-1.dist-info' / 'RECORD').touch()
    (tmp_path / 'tmp' / 'pip-unpack').mkdir(parents=True)
    script.sweep(script.Setup(tmp_path, interpreter(script), {}))
    assert sorted(path.name for path in packages.iterdir()) == ['done-1.dist-info', 'half']
    assert list((tmp_path / 'tmp').iterdir()) == []


def test_pip_keeps_its_settings_but_not_a_foreign_pythonpath(script, tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_FIND_LINKS', '/some/wheels')
    monkeypatch.setenv('PYTHONPATH', '/some/packages')
    environment = script.Setup(tmp_path, interpreter(script), {}).environment(MAX_JOBS='3')
    assert environment['PIP_FIND_LINKS'] == '/some/wheels'
    assert environment['MAX_JOBS'] == '3'
    assert environment['TMPDIR'].startswith(str(tmp_path))
    assert 'PYTHONPATH' not in environment


@pytest.mark.parametrize(('cores', 'gib', 'jobs'), [(2, 24, 2), (64, 16, 8), (4, 1, 1)])
def test_compile_jobs_follow_cores_and_memory(script, monkeypatch, cores, gib, jobs):
    monkeypatch.setattr(os, 'cpu_count', lambda: cores)
    sizes = {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': gib * 2**30 // 4096}
    monkeypatch.setattr(os, 'sysconf', sizes.get)
    assert script.compile_jobs() == jobs
    monkeypatch.setenv('MAX_JOBS', '5')
    assert script.compile_jobs() == 5


def test_heartbeat_counts_the_compiled_files(script, tmp_path):
    assert script.compiled_files(tmp_path) == 'preparing'
    (tmp_path / 'build').mkdir()
    plan = 'rule compile\nbuild /b/a.o: compile /s/a.cpp\nbuild /b/b.o: cuda_compile /s/b.cu\n'
    (tmp_path / 'build' / 'build.ninja').write_text(plan)
    (tmp_path / 'build' / 'a.o').touch()
    assert script.compiled_files(tmp_path) == '1 of 2 files compiled'


def test_a_second_set_up_waits_for_the_first_and_says_so(script, tmp_path, capsys):
    file = tmp_path / 'file'
    file.touch()
    order = []

    def second():
        with script.locked(file):
            order.append('second')

    with script.locked(file):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.5)
        order.append('first')
    waiting.join(timeout=10)
    assert order == ['first', 'second']
    assert 'waiting for it' in capsys.readouterr().out


def test_of_two_calls_at_once_only_one_does_the_work(script, ran, repo):
    calls = [
        threading.Thread(target=script.set_up, args=(repo / '.venv', sys.executable))
        for _ in range(2)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join(timeout=60)
    assert ran == STAGE_NAMES
