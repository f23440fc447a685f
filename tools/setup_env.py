#!/usr/bin/env python3
"""Make the project's virtual environment, or return at once if it is there.

`make setup` runs this on a bare system Python, so it uses the standard library alone and keeps to
syntax that Python 3.8 reads: whoever starts it with an unsuitable Python gets a sentence, not a
SyntaxError.

The work is cut into `STAGES`. A stage that has succeeded leaves a stamp in the environment, a
hash of what it was made from. The first stage whose stamp is missing or differs runs again, and
so do those after it: one rule for a first call, a changed pin and a call after a kill.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements.txt'

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)
GIB = 2**30
GIB_PER_COMPILER = 2  # mmcv's files include all of torch's headers
HEARTBEAT_SECONDS = 30
LOG_LINES_SHOWN = 30

# What the first stages take from requirements.txt; the last takes the rest.
TORCH_PACKAGES = ('torch', 'torchvision', 'numpy', 'setuptools', 'wheel', 'ninja', 'psutil')
MMCV = 'mmcv'
HEADLESS_OPENCV = 'opencv-python-headless'
PROJECT_FILES = ('pyproject.toml', 'setup.py')

PROBE = """
import importlib.util, json, os, sys, sysconfig
base = os.path.join(sys.base_prefix, 'bin', 'python%d.%d' % sys.version_info[:2])
print(json.dumps({
    'path': base if os.path.exists(base) else sys.executable,
    'version': sys.version_info[:3],
    'has_venv': all(importlib.util.find_spec(name) for name in ('venv', 'ensurepip')),
    'header': os.path.join(sysconfig.get_path('include'), 'Python.h'),
}))
"""

HELLO = '#include <optional>\nint main() { std::optional<int> zero{0}; return *zero; }\n'

CHECK = """
import sys
import cv2, matplotlib, mmdet, mmengine, mmpretrain, mmseg, pkg_resources, sklearn, torchvision
import torch
from mmcv.ops import RoIAlign, nms
import mmvitlin
device = 'cuda' if sys.argv[1] == 'True' and torch.cuda.is_available() else 'cpu'
boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 3.9], [5., 5., 8., 8.]], device=device)
kept, _ = nms(boxes, torch.tensor([.9, .8, .7], device=device), 0.5)
assert len(kept) == 2, kept
rois = torch.cat([torch.zeros(3, 1, device=device), boxes], dim=1)
pooled = RoIAlign(output_size=2)(torch.ones(1, 1, 9, 9, device=device), rois)
assert torch.allclose(pooled, torch.ones(3, 1, 2, 2, device=device)), pooled
"""


class SetupError(Exception):
    """What went wrong, worded for the person who typed `make`."""


def say(text: str) -> None:
    """Print a line at once: what follows on the terminal may come from pip."""
    print(f'set-up: {text}', flush=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def ask(*command: str, **options) -> subprocess.CompletedProcess:
    """Run a command for its answer: nothing is shown, and a failure is for the caller to judge."""
    return subprocess.run(
        command, check=False, capture_output=True, text=True, errors='replace', **options
    )


def read_requirements(text: str) -> dict[str, str]:
    """Distribution name -> its requirement line, in the file's order."""
    lines = {}
    for line in text.splitlines():
        line = line.split('#')[0].strip()
        if not line:
            continue
        name = re.match(r'[\w.-]+', line).group().lower().replace('_', '-')
        if name in lines:
            raise SetupError(f'requirements.txt names {name} twice: keep one of the two lines')
        lines[name] = line
    return lines


# What the machine has. A function `..._problem` returns a line for what is missing, and None where
# nothing is: what was found, what is needed, what to do.


@dataclass(frozen=True)
class Interpreter:
    """What an environment's making depends on, as `PROBE` prints it."""

    path: str
    version: tuple
    has_venv: bool
    header: Path

    @property
    def minor(self) -> str:
        return '{}.{}'.format(*self.version)

    def __str__(self):
        return '{}.{}.{}'.format(*self.version) + f' ({self.path})'


def probe(python: str | Path) -> Interpreter | None:
    """What an interpreter says of itself; None if it does not run, as a pyenv shim may not.

    Of a virtual environment's interpreter: the one below, which can make the environment anew.
    """
    try:
        facts = json.loads(ask(str(python), '-c', PROBE, timeout=60).stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    version, header = tuple(facts['version']), Path(facts['header'])
    return Interpreter(facts['path'], version, facts['has_venv'], header)


def version_problem(python: Interpreter) -> str | None:
    """Torch asks for 3.10 at least, and nothing after 3.12 has been tried."""
    if OLDEST_PYTHON <= python.version[:2] <= NEWEST_PYTHON:
        return None
    return (
        f'Python: found {python}, need 3.10 to 3.12: '
        'install one of these, or name one: make PYTHON=/path/to/python3.12'
    )


def venv_problem(python: Interpreter) -> str | None:
    """Some systems package these two modules of the standard library apart."""
    if python.has_venv:
        return None
    return (
        f'venv: Python {python} lacks the modules venv and ensurepip, need both: '
        f"install your system's package of them (Debian: python{python.minor}-venv)"
    )


def header_problem(python: Interpreter) -> str | None:
    """Some systems package C headers apart."""
    if python.header.exists():
        return None
    return (
        f'Python.h: not found at {python.header}, needed to compile mmcv: '
        f"install your system's package of it (Debian: python{python.minor}-dev)"
    )


def python_problems(python: Interpreter) -> list[str]:
    """All that keeps an interpreter from serving; of a wrong version, that alone matters."""
    if version_problem(python):
        return [version_problem(python)]
    return [*filter(None, (venv_problem(python), header_problem(python)))]


def choose_python(venv: Path, asked_for: str | None) -> tuple[Interpreter | None, list[str]]:
    """The interpreter for the environment, and its problems.

    One that was asked for wins. Else the environment's own, the running one and those on PATH
    are tried in turn, and the first without a problem is it.
    """
    if asked_for:
        candidates = [asked_for]
    else:
        candidates = [venv / 'bin' / 'python', sys.executable]
        candidates += ['python3.12', 'python3.11', 'python3.10']
    runs = []
    for python in filter(None, map(probe, candidates)):
        problems = python_problems(python)
        if not problems:
            return python, []
        runs.append((python, problems))
    if not runs:
        return None, [f'Python: {asked_for} does not run, need Python 3.10 to 3.12: correct PYTHON']
    return min(runs, key=lambda run: bool(version_problem(run[0])))


def find_compiler() -> str | None:
    """A C++ compiler that makes a program of a C++17 file: CXX if set, else the usual names."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / 'hello.cpp'
        source.write_text(HELLO)
        for name in names:
            command = [*name.split(), '-std=c++17', str(source), '-o', f'{folder}/hello']
            try:
                if ask(*command).returncode == 0:
                    return name
            except OSError:
                continue
    return None


def compiler_problem() -> str | None:
    """The ops of mmcv are C++17, as torch's headers are."""
    if find_compiler():
        return None
    tried = f'CXX={os.environ["CXX"]}' if os.environ.get('CXX') else 'any of c++, g++, clang++'
    return (
        f'C++ compiler: {tried} does not compile a C++17 program, need one that does: '
        'install g++ 9 or newer (Debian: g++), or name a compiler in CXX'
    )


def bytes_in(folder: Path) -> int:
    """Disk that removing a folder would free; 0 if it is not there."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob('*'))


def disk_problem(venv: Path, needed_gib: float, reclaimable: int) -> str | None:
    """`reclaimable`: bytes that the set-up frees itself, by removing an outdated environment."""
    place = next(folder for folder in (venv, *venv.parents) if folder.exists())
    free_gib = (shutil.disk_usage(place).free + reclaimable) / GIB
    if free_gib >= needed_gib:
        return None
    return (
        f'disk: found {free_gib:.1f} GiB free at {place}, need {needed_gib:.1f} GiB: '
        'free some, or place the environment elsewhere: make MMVITLIN_VENV=/path/to/venv'
    )


def ownership_problem(venv: Path) -> str | None:
    """An environment that something else made is not ours to change or remove."""
    if not venv.exists() or (venv / '.setup').exists() or not any(venv.iterdir()):
        return None
    return (
        f'environment: {venv} exists and was not made by this set-up, need a place of its own: '
        'move it away, or choose another place: make MMVITLIN_VENV=/path/to/venv'
    )


def cuda_toolkit(major: str) -> Path | None:
    """The folder of a CUDA toolkit of this major version: CUDA_HOME if set, else the usual places.

    A stray nvcc on PATH is no toolkit: the folder must hold the headers as well.
    """
    if os.environ.get('CUDA_HOME'):
        places = [Path(os.environ['CUDA_HOME'])]
    else:
        nvcc = shutil.which('nvcc')
        places = [Path(nvcc).resolve().parent.parent] if nvcc else []
        places += [Path('/usr/local/cuda'), *Path('/usr/local').glob(f'cuda-{major}*')]
    for place in places:
        nvcc = place / 'bin' / 'nvcc'
        complete = nvcc.exists() and (place / 'include' / 'cuda_runtime.h').exists()
        if complete and f'release {major}.' in ask(str(nvcc), '--version').stdout:
            return place
    return None


def cuda_for(venv: Path) -> Path | None:
    """The toolkit for mmcv's CUDA ops, where there is a GPU and a toolkit of torch's CUDA version.

    Asked on every call, hence cheap: torch's version file is read, torch is not imported.
    """
    if not [*Path('/dev').glob('nvidia[0-9]*'), *Path('/dev').glob('dxg')]:
        return None
    for version in venv.glob('lib/python*/site-packages/torch/version.py'):
        cuda = re.search(r"^cuda\b.*'(\d+)\.", version.read_text(), re.MULTILINE)
        if cuda:
            return cuda_toolkit(cuda.group(1))
    return None


# The stages.


@dataclass(frozen=True)
class Setup:
    """One call: where the environment is, of which Python, from which requirement lines."""

    venv: Path
    python: Interpreter | None
    lines: dict

    @property
    def venv_python(self) -> str:
        return str(self.venv / 'bin' / 'python')

    @property
    def state(self) -> Path:
        """Folder of the stamps; its presence also marks the environment as ours to remove."""
        return self.venv / '.setup'

    @property
    def log(self) -> Path:
        return self.venv / 'setup.log'

    @property
    def scratch(self) -> Path:
        """Temporary files: on the environment's disk, and where a later call can sweep them up."""
        return self.venv / 'tmp'

    def environment(self, **extra: str) -> dict[str, str]:
        """The caller's variables (PIP_FIND_LINKS, proxies), without what leads out of the venv."""
        kept = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME')}
        return {**kept, 'TMPDIR': str(self.scratch), 'PIP_DISABLE_PIP_VERSION_CHECK': '1', **extra}

    def start(self, *command: str, **options) -> subprocess.Popen:
        """A child that shares our lock, so that even if we are killed the next call awaits it."""
        return subprocess.Popen(command, cwd=ROOT, close_fds=False, **options)


def pip_install(setup: Setup, *arguments: str) -> None:
    """Run pip in plain sight, with its progress bars; its full record goes to the log."""
    pip = [setup.venv_python, '-m', 'pip', '--log', str(setup.log), 'install']
    pip += ['--constraint', str(REQUIREMENTS)]
    if setup.start(*pip, *arguments, env=setup.environment()).wait():
        raise SetupError(f'pip failed, for the reason shown above; its full record: {setup.log}')


def install_torch(setup: Setup) -> None:
    """Make the environment anew: what is there without a torch to suit is not worth keeping."""
    for path in setup.venv.iterdir():
        if path != setup.state:
            remove(path)
    sweep(setup)
    make_venv = [setup.python.path, '-m', 'venv', str(setup.venv)]
    if setup.start(*make_venv, env=setup.environment()).wait():
        raise SetupError(f'no environment from Python {setup.python}, for the reason shown above')
    pip_install(setup, *TORCH_PACKAGES)


def install_mmcv(setup: Setup) -> None:
    """Build mmcv with its ops, for CUDA as well where a GPU works and a toolkit suits torch.

    Its build takes every GPU for a reason to use CUDA, toolkit or not: without one the GPU is
    hidden. The cache of pip is left out: an mmcv in it may be built against another torch.
    """
    toolkit = cuda_for(setup.venv)
    has_gpu = 'import sys, torch; sys.exit(not torch.cuda.is_available())'
    answer = ask(setup.venv_python, '-c', has_gpu, env=setup.environment())
    if toolkit and answer.returncode == 0:
        say(f'mmcv gets its ops for CPU and CUDA, by the toolkit in {toolkit}')
        target = {'FORCE_CUDA': '1', 'CUDA_HOME': str(toolkit)}
    else:
        say('mmcv gets its ops for CPU: found no GPU with a CUDA toolkit of the version of torch')
        target = {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
    target.update(MMCV_WITH_OPS='1', MAX_JOBS=str(compile_jobs()), CXX=find_compiler())
    options = ['--no-deps', '--no-build-isolation', '--force-reinstall', '--no-cache-dir']
    pip = [setup.venv_python, '-m', 'pip', 'install', '--verbose', *options]
    pip += ['--constraint', str(REQUIREMENTS), MMCV]
    with setup.log.open('a') as log:
        environment = setup.environment(**target)
        process = setup.start(*pip, env=environment, stdout=log, stderr=subprocess.STDOUT)
        watch_build(process, setup.scratch)
    if process.returncode:
        print(*setup.log.read_text(errors='replace').splitlines()[-LOG_LINES_SHOWN:], sep='\n')
        raise SetupError(f'mmcv was not installed; above is the end of {setup.log}')


def install_hosts(setup: Setup) -> None:
    """Install all the rest; then cv2 once more, in the form that needs no window system."""
    done = (*TORCH_PACKAGES, MMCV, HEADLESS_OPENCV)
    pip_install(setup, *(name for name in setup.lines if name not in done))
    pip_install(setup, '--no-deps', '--force-reinstall', HEADLESS_OPENCV)


def install_project(setup: Setup) -> None:
    """Install this project itself, editable; then check that everything works together."""
    pip_install(setup, '--no-deps', '--no-build-isolation', '--editable', str(ROOT))
    for check in (['-c', CHECK, str(bool(cuda_for(setup.venv)))], ['-m', 'pip', 'check']):
        done = ask(setup.venv_python, *check, env=setup.environment())
        if done.returncode:
            print(done.stdout, done.stderr, flush=True)
            raise SetupError(
                'all is installed and does not work together, as shown above; where that names '
                'no cause to remove, make the environment anew: make distclean setup'
            )


@dataclass(frozen=True)
class Stage:
    """A part of the work that is done, stamped and repeated as a whole."""

    name: str
    what: str
    install: Callable[[Setup], None]
    gib: float  # disk from here to the end, with pip's temporary files and its cache


STAGES = (
    Stage('torch', 'a new environment with torch (2 to 5 minutes)', install_torch, 15),
    Stage('mmcv', 'mmcv with its compiled ops (6 minutes on 2 cores)', install_mmcv, 2),
    Stage('hosts', 'the OpenMMLab hosts and the tools (1 minute)', install_hosts, 2),
    Stage('project', 'this project, and a check of the whole (1 minute)', install_project, 0.1),
)


def sweep(setup: Setup) -> None:
    """Clear what a killed pip leaves: temporary files, and packages that it did not finish.

    pip writes a package's RECORD last. A package without it passes for installed and cannot be
    removed; with its metadata gone, pip installs it again, over the files that are there.
    """
    shutil.rmtree(setup.scratch, ignore_errors=True)
    setup.scratch.mkdir(exist_ok=True)
    for packages in setup.venv.glob('lib/python*/site-packages'):
        infos = packages.glob('*.dist-info')
        unfinished = [info for info in infos if not (info / 'RECORD').exists()]
        for path in (*unfinished, *packages.glob('~*')):
            remove(path)


def compile_jobs() -> int:
    """MAX_JOBS if set, else as many compilers as the cores and the memory bear."""
    if os.environ.get('MAX_JOBS'):
        return int(os.environ['MAX_JOBS'])
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return max(1, min(os.cpu_count() or 1, memory // (GIB_PER_COMPILER * GIB)))


def watch_build(process: subprocess.Popen, folder: Path) -> None:
    """Wait for a silent build, with a sign of life now and then."""
    started = time.monotonic()
    while True:
        try:
            process.wait(timeout=HEARTBEAT_SECONDS)
            return
        except subprocess.TimeoutExpired:
            minutes, seconds = divmod(int(time.monotonic() - started), 60)
            say(f'  {minutes}:{seconds:02d} min, {compiled_files(folder)}')


def compiled_files(folder: Path) -> str:
    """How far ninja has come, by its plan and the object files under a folder."""
    plans = [plan.read_text() for plan in folder.rglob('build.ninja')]
    planned = sum(len(re.findall(r'^build .*: (?:cuda_)?compile ', p, re.MULTILINE)) for p in plans)
    compiled = sum(1 for _ in folder.rglob('*.o'))
    return f'{compiled} of {planned} files compiled' if planned else 'preparing'


# Which stages are to run, and running them.


def stamp_of(stage: Stage, setup: Setup) -> str:
    """A hash of all that the stage is made from; for mmcv, also whether CUDA was to be had."""
    lines = setup.lines
    sources = {
        'torch': [str(setup.venv), setup.python.minor, *(lines[name] for name in TORCH_PACKAGES)],
        'mmcv': [lines[MMCV]],
        'hosts': [line for name, line in lines.items() if name not in (*TORCH_PACKAGES, MMCV)],
        'project': [(ROOT / name).read_text() for name in PROJECT_FILES if (ROOT / name).exists()],
    }[stage.name]
    cuda = ' cuda' if stage.name == MMCV and cuda_for(setup.venv) else ''
    return hashlib.sha256('\n'.join(sources).encode()).hexdigest() + cuda


def is_fresh(stage: Stage, setup: Setup) -> bool:
    """Whether the stage's stamp is the one it would leave now.

    An mmcv with CUDA ops also serves where no GPU is seen, on the login node of a cluster, say.
    """
    try:
        stamp = (setup.state / stage.name).read_text()
    except OSError:
        return False
    wanted = stamp_of(stage, setup)
    return stamp in (wanted, wanted + ' cuda')


def pending_stages(setup: Setup) -> tuple[Stage, ...]:
    """The first stage that is not fresh, and all after it."""
    present = probe(setup.venv_python)
    if not (present and setup.python and present.minor == setup.python.minor):
        return STAGES
    for number, stage in enumerate(STAGES):
        if not is_fresh(stage, setup):
            return STAGES[number:]
    return ()


def problems_of(setup: Setup, pending: tuple[Stage, ...]) -> list[str]:
    """What is missing for these stages, apart from a suitable Python."""
    names = [stage.name for stage in pending]
    reclaimable = bytes_in(setup.venv) if 'torch' in names and setup.state.exists() else 0
    problems = (
        ownership_problem(setup.venv),
        compiler_problem() if MMCV in names else None,
        disk_problem(setup.venv, max((stage.gib for stage in pending), default=0), reclaimable),
    )
    return [*filter(None, problems)]


def run(pending: tuple[Stage, ...], setup: Setup) -> None:
    """Run stages. Their old stamps go first, so that a cut-off leaves none that is wrong."""
    setup.state.mkdir(parents=True, exist_ok=True)
    for stage in pending:
        if (setup.state / stage.name).exists():
            (setup.state / stage.name).unlink()
    for stage in pending:
        say(f'stage {STAGES.index(stage) + 1}/{len(STAGES)}: {stage.what}')
        started = time.monotonic()
        sweep(setup)
        stage.install(setup)
        (setup.state / stage.name).write_text(stamp_of(stage, setup))
        say(f'{stage.name} took {time.monotonic() - started:.0f} s')
    shutil.rmtree(setup.scratch, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One set-up at a time; a second one waits, and says so. The file must be there."""
    with path.open('r+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('another set-up is running; waiting for it')
            fcntl.flock(file, fcntl.LOCK_EX)
        os.set_inheritable(file.fileno(), True)  # for Setup.start
        yield


def examine(venv: Path, asked_for: str | None) -> tuple[Setup, tuple[Stage, ...], list[str]]:
    """The set-up as it stands, the stages it lacks, and what is wrong with its Python."""
    python, problems = choose_python(venv, asked_for)
    setup = Setup(venv, python, read_requirements(REQUIREMENTS.read_text()))
    return setup, pending_stages(setup), problems


def set_up(venv: Path, asked_for: str | None) -> None:
    """Bring the environment up to date, or raise before the first change if something lacks."""
    setup, pending, _ = examine(venv, asked_for)
    if pending:
        with locked(REQUIREMENTS):
            setup, pending, problems = examine(venv, asked_for)  # another call may have done it
            problems += problems_of(setup, pending)
            if problems:
                raise SetupError('\n  '.join(['this is missing; nothing was done yet', *problems]))
            run(pending, setup)
    say(f'{venv} is ready, with Python {setup.python.minor}')


def main() -> None:
    """Read the command line, and turn what goes wrong into a sentence and an exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--venv',
        default=os.environ.get('MMVITLIN_VENV') or '.venv',
        help='place of the environment, relative to the repository; default: %(default)s, '
        'or what MMVITLIN_VENV says',
    )
    parser.add_argument(
        '--python',
        help='interpreter the environment is made of; default: its own if it is there, else the '
        'running one, else a python3.12, 3.11 or 3.10 on PATH',
    )
    arguments = parser.parse_args()
    try:
        set_up(ROOT / arguments.venv, arguments.python)
    except SetupError as error:
        sys.exit(f'set-up: {error}')
    except KeyboardInterrupt:
        sys.exit('set-up: interrupted; the next call goes on from here')


if __name__ == '__main__':
    main()
