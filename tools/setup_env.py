#!/usr/bin/env python3
"""Create the virtual environment of the project, or return at once if it is up to date.

It gets what a file names: requirements.txt, or one of tests/stacks/ for another stack of versions.
The file lists its Pythons in a line `# Python: 3.12, 3.11`. `mmcv` is compiled with its ops;
`mmcv-lite` and `onedl-mmcv` are installed without.

The work is divided into `STAGES`. A stage that succeeds writes a stamp into the environment: a hash
of its inputs. The first stage whose stamp is missing or differs runs, and so do all stages after
it. This holds for a first call, after a changed version in the file and after a kill.

This script imports the standard library only and uses the syntax of Python 3.8, so that an
unsuitable Python prints a message and not a SyntaxError.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements.txt'
TORCH_PACKAGES = ('torch', 'torchvision', 'numpy', 'setuptools', 'wheel', 'ninja', 'psutil')
MMCVS = ('mmcv', 'mmcv-lite', 'onedl-mmcv')  # one of them; the first has compiled ops
HEADLESS_OPENCV = 'opencv-python-headless'
ELSEWHERE = 'choose another folder by make MMVITLIN_VENV=/path/to/venv'
GIB = 2**30
GIB_FOR_TORCH, GIB_FOR_THE_REST = 15, 2  # including pip's cache and temporary files
GIB_PER_COMPILER = 2  # mmcv's files include all of torch's headers

# Prints the version of an interpreter and the missing parts for an environment and for mmcv.
PROBE = """
import importlib.util, os, sys, sysconfig
base = os.path.join(sys.base_prefix, 'bin', 'python%d.%d' % sys.version_info[:2])
header = os.path.join(sysconfig.get_path('include'), 'Python.h')
found = {'the module venv': importlib.util.find_spec('venv'), header: os.path.exists(header)}
found['the module ensurepip'] = importlib.util.find_spec('ensurepip')
print(base if os.path.exists(base) else sys.executable, '%d.%d' % sys.version_info[:2], sep='|')
print(', '.join(name for name, there in found.items() if not there))
"""

# Prints the CUDA toolkit to compile mmcv with, if there is a GPU.
CUDA = """
import subprocess, torch
from torch.utils.cpp_extension import CUDA_HOME
if torch.cuda.is_available() and CUDA_HOME:
    said = subprocess.run([CUDA_HOME + '/bin/nvcc', '--version'], capture_output=True, text=True)
    if 'release %s.' % torch.version.cuda.split('.')[0] in said.stdout:
        print(CUDA_HOME)
"""

CHECK = """
import cv2, matplotlib, mmengine, mmpretrain, pkg_resources, sklearn, torchvision
import mmvitlin
"""

CHECK_OPS = """
import mmdet, mmseg, torch
from mmcv.ops import nms
boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 3.9], [5., 5., 8., 8.]])
kept, _ = nms(boxes, torch.tensor([.9, .8, .7]), 0.5)
assert len(kept) == 2, kept
"""


class SetupError(Exception):
    """A failed set-up; the message is for the user of `make`."""


def say(text: str) -> None:
    """Print a line without buffering, since the next output can be that of pip."""
    print(f'set-up: {text}', flush=True)


def ask(*command: str) -> str | None:
    """Return the output of a command, or None if it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read_requirements(requirements: Path = REQUIREMENTS) -> dict[str, str]:
    """Return distribution name -> requirement, in the order of the file."""
    lines = (line.split('#')[0].strip() for line in requirements.read_text().splitlines())
    return {re.match(r'[\w.-]+', line).group().lower(): line for line in lines if line}


def read_pythons(requirements: Path) -> list[str]:
    """Return the versions in the line `# Python:` of the file, the preferred one first."""
    return re.search(r'^# Python: (.+)$', requirements.read_text(), re.M).group(1).split(', ')


def find_mmcv(requirements: Path) -> str:
    """Return the name under which the file has mmcv."""
    return next(name for name in MMCVS if name in read_requirements(requirements))


# Checks before the first change


def choose_python(
    venv: Path, asked_for: str | None, requirements: Path = REQUIREMENTS
) -> tuple[str, str, list[str]]:
    """Return path and version of the interpreter to use, and its problems.

    If the user gives none, the interpreter of the environment, the running one and those on PATH
    are tried in this order; the first one without problems is used.
    """
    pythons = read_pythons(requirements)
    names = [asked_for] if asked_for else [str(venv / 'bin/python'), sys.executable]
    names += [] if asked_for else [f'python{version}' for version in pythons]
    found = []
    for name in names:
        answer = ask(name, '-c', PROBE)
        if answer is None:  # it does not exist, or is a shim without a Python
            continue
        facts, _, lacking = answer.partition('\n')
        path, version = facts.split('|')
        if version not in pythons:
            problem = (
                f'Python: found {version} ({path}), need one of {", ".join(pythons)}: install one, '
                f'or name one by make PYTHON=/path/to/python{pythons[0]}'
            )
        elif lacking:
            problem = (
                f'Python: {version} ({path}) lacks {lacking}: install them '
                f'(Debian: python{version}-venv, python{version}-dev)'
            )
        else:
            return path, version, []
        found.append((path, version, [problem]))
    return found[0] if found else ('', '', [f'Python: {names[0]} does not run; correct PYTHON'])


def find_compiler() -> str | None:
    """Return the C++17 compiler in CXX, or the first of the usual names that works."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'hello.cpp')
        source.write_text('#include <optional>\nint main() { return *std::optional<int>{0}; }\n')
        for name in [os.environ['CXX']] if 'CXX' in os.environ else ['c++', 'g++', 'clang++']:
            command = [*name.split(), '-std=c++17', str(source), '-o', f'{folder}/hello']
            if ask(*command) is not None:
                return name
    return None


def find_problems(venv: Path, pending: list[str], requirements: Path) -> list[str]:
    """Return a line per missing requirement of these stages, apart from Python."""
    problems = []
    if venv.exists() and any(venv.iterdir()) and not (venv / '.setup').exists():
        problems.append(
            f'environment: {venv} was not made by this set-up: move it away, or {ELSEWHERE}'
        )
    compiles = 'mmcv' in pending and find_mmcv(requirements) == 'mmcv'
    if compiles and find_compiler() is None:
        problems.append('C++ compiler: found none for C++17: install g++ 9 or newer, or set CXX')
    place = next(folder for folder in (venv, *venv.parents) if folder.exists())
    free, need = shutil.disk_usage(place).free / GIB, GIB_FOR_THE_REST
    if 'torch' in pending:
        need = GIB_FOR_TORCH
        free += sum(p.lstat().st_size for p in venv.rglob('*')) / GIB  # is removed first
    if free < need:
        found = f'found {free:.1f} GiB free at {place}, need {need}'
        problems.append(f'disk: {found}: free some, or {ELSEWHERE}')
    return problems


# Stages


def run(venv: Path, *command: str, **variables: str) -> None:
    """Run a command with visible output, and with temporary files inside the environment.

    The child process inherits the lock, so that another call waits for it even if this process is
    killed.
    """
    (venv / 'tmp').mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
    environment = {**kept, 'TMPDIR': str(venv / 'tmp'), 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}
    if subprocess.call(command, cwd=ROOT, env={**environment, **variables}, close_fds=False):
        raise SetupError(f'this failed, for the reason shown above: {" ".join(command)}')


def pip_install(venv: Path, requirements: Path, *arguments: str, **variables: str) -> None:
    """Install with the file as constraints; pip writes its full log to setup.log."""
    pip = [f'{venv}/bin/python', '-m', 'pip', '--log', f'{venv}/setup.log', 'install']
    run(venv, *pip, '--constraint', str(requirements), *arguments, **variables)


def install_torch(venv: Path, python: str, requirements: Path) -> None:
    """Create a new environment, with torch."""
    for path in venv.iterdir():
        if path.name != '.setup':
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    run(venv, python, '-m', 'venv', str(venv))
    pip_install(venv, requirements, *TORCH_PACKAGES)


def install_mmcv(venv: Path, python: str, requirements: Path) -> None:
    """Build mmcv with its ops, also for CUDA if a GPU works and a toolkit matches torch.

    The other names of mmcv are installed without ops: pip builds them where there is no torch.
    mmcv's build uses CUDA for any GPU that it finds, so the GPU is hidden if no toolkit matches.
    pip's cache is not used, since an mmcv in it may have been built for another torch.
    """
    name = find_mmcv(requirements)
    if name != 'mmcv':
        pip_install(venv, requirements, '--no-deps', name)
        return
    toolkit = ask(f'{venv}/bin/python', '-c', CUDA)
    say(f'mmcv is compiled for {"CPU and CUDA, by " + toolkit if toolkit else "the CPU"}')
    target = dict(FORCE_CUDA='1') if toolkit else dict(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES='')
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    jobs = max(1, min(os.cpu_count() or 1, memory // (GIB_PER_COMPILER * GIB)))
    jobs = os.environ.get('MAX_JOBS', str(jobs))
    target.update(MMCV_WITH_OPS='1', CXX=find_compiler(), MAX_JOBS=jobs)
    options = ['--no-deps', '--no-build-isolation', '--force-reinstall', '--no-cache-dir']
    pip_install(venv, requirements, *options, name, **target)


def install_hosts(venv: Path, python: str, requirements: Path) -> None:
    """Install the rest, then OpenCV again, in the version that needs no window system."""
    done = (*TORCH_PACKAGES, *MMCVS, HEADLESS_OPENCV)
    names = (name for name in read_requirements(requirements) if name not in done)
    pip_install(venv, requirements, *names)
    pip_install(venv, requirements, '--no-deps', '--force-reinstall', HEADLESS_OPENCV)


def install_project(venv: Path, python: str, requirements: Path) -> None:
    """Install this project as editable, and check that all packages work together."""
    options = ['--no-deps', '--no-build-isolation', '--editable']
    pip_install(venv, requirements, *options, str(ROOT))
    check = CHECK + CHECK_OPS if find_mmcv(requirements) == 'mmcv' else CHECK
    run(venv, f'{venv}/bin/python', '-c', check)
    run(venv, f'{venv}/bin/python', '-m', 'pip', 'check')


# Name -> function, and the text that is printed.
STAGES = {
    'torch': (install_torch, 'a new environment with torch (2 to 5 minutes)'),
    'mmcv': (install_mmcv, 'mmcv (its ops compile for 6 minutes on 2 cores)'),
    'hosts': (install_hosts, 'the OpenMMLab hosts and the tools (1 minute)'),
    'project': (install_project, 'this project, and a check of the whole (1 minute)'),
}


def stamps(venv: Path, version: str, requirements: Path) -> dict[str, str]:
    """Return stage -> hash of its inputs."""
    lines = read_requirements(requirements)
    files = [ROOT / 'pyproject.toml', ROOT / 'setup.py']
    inputs = {
        'torch': [str(venv), version, *(lines[name] for name in TORCH_PACKAGES)],
        'mmcv': [lines[find_mmcv(requirements)]],
        'hosts': [line for name, line in lines.items() if name not in (*TORCH_PACKAGES, *MMCVS)],
        'project': [path.read_text() for path in files if path.exists()],
    }
    return {k: hashlib.sha256('\n'.join(v).encode()).hexdigest() for k, v in inputs.items()}


def pending_stages(venv: Path, version: str, requirements: Path) -> list[str]:
    """Return the first stage whose stamp is missing or differs, and all after it."""
    names = list(STAGES)
    present = ask(f'{venv}/bin/python', '-c', 'import sys; print("%d.%d" % sys.version_info[:2])')
    if present != version:
        return names
    for number, (name, stamp) in enumerate(stamps(venv, version, requirements).items()):
        path = venv / '.setup' / name
        if not path.is_file() or path.read_text() != stamp:
            return names[number:]
    return []


def sweep(venv: Path) -> None:
    """Remove the temporary files and the unfinished packages of a killed pip.

    pip writes the RECORD of a package last. A package without RECORD counts as installed and cannot
    be uninstalled. Without its metadata, pip installs it again over the existing files.
    """
    shutil.rmtree(venv / 'tmp', ignore_errors=True)
    for packages in venv.glob('lib/python*/site-packages'):
        unfinished = [p for p in packages.glob('*.dist-info') if not (p / 'RECORD').exists()]
        for path in (*unfinished, *packages.glob('~*')):
            shutil.rmtree(path)


@contextmanager
def locked(requirements: Path = REQUIREMENTS):
    """Let one set-up run at a time; a second one prints a message and waits."""
    with requirements.open('r+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('another set-up is running; waiting for it')
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)
        yield


def set_up(venv: Path, asked_for: str | None, requirements: Path = REQUIREMENTS) -> None:
    """Update the environment; if a requirement is missing, raise before any change."""
    python, version, problems = choose_python(venv, asked_for, requirements)
    if problems or pending_stages(venv, version, requirements):
        with locked(requirements):
            pending = list(STAGES) if problems else pending_stages(venv, version, requirements)
            problems += find_problems(venv, pending, requirements)
            if problems:
                raise SetupError('\n  '.join(['this is missing; nothing was done yet', *problems]))
            for name in pending:  # so that no stamp is wrong after a kill
                (venv / '.setup').mkdir(parents=True, exist_ok=True)
                (venv / '.setup' / name).unlink(missing_ok=True)
            for name in pending:
                install, text = STAGES[name]
                say(f'stage {list(STAGES).index(name) + 1}/{len(STAGES)}: {text}')
                started = time.monotonic()
                sweep(venv)
                install(venv, python, requirements)
                (venv / '.setup' / name).write_text(stamps(venv, version, requirements)[name])
                say(f'{name} took {time.monotonic() - started:.0f} s')
            shutil.rmtree(venv / 'tmp', ignore_errors=True)
    say(f'{venv} is ready, with Python {version}')


def main() -> None:
    """Read the command line, run the set-up, and print errors in one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get('MMVITLIN_VENV') or '.venv'
    parser.add_argument('--venv', default=default, help='the environment; default: %(default)s')
    parser.add_argument('--python', help='the interpreter of the environment')
    text = 'the file of versions, from the root of the repository; default: %(default)s'
    parser.add_argument('--requirements', default=REQUIREMENTS.name, help=text)
    arguments = parser.parse_args()
    try:
        set_up(ROOT / arguments.venv, arguments.python, ROOT / arguments.requirements)
    except SetupError as error:
        sys.exit(f'set-up: {error}')
    except KeyboardInterrupt:
        sys.exit('set-up: interrupted; the next call continues')


if __name__ == '__main__':
    main()
