"""Trainings of seconds that are killed: tools/train.py in children of this process.

Importing torch and the hosts takes seconds, so a child is forked after that; two-process runs are
started as users start them.
"""

import importlib
import logging
import os
import random
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from tiny_run import DEMO, ROOT, TINY

COMPARED = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'random_states')
# Random numbers of the main process as well as of the data pipeline.
MIXUP = "model = dict(train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]))\n"
MOMENTS = 0.8  # seconds after the first iteration in which kills are spread; trainings outlast them
DROP_PATH = {'model.backbone.drop_path_rate': 0.2}

# What a child would import.
for module in (
    *(f'mmpretrain.{part}' for part in ('models', 'datasets', 'evaluation', 'engine')),
    *(f'mmvitlin.{part}' for part in ('models', 'datasets', 'engine')),
    *('mmpretrain.visualization', 'sklearn.datasets', 'torch.utils.cpp_extension'),
):
    importlib.import_module(module)


class Training:
    """A config in a folder, trained as often as asked.

    Args:
        folder: for the config, the work directory and the output.
        text: added to the demo's config.
        processes: how many train together; 1 is forked, more are started by tools/dist_train.sh.
        options: as `--cfg-options`.
    """

    def __init__(self, folder: Path, text: str = '', processes: int = 1, **options):
        self.folder, self.processes = folder, processes
        self.work_dir = folder / 'run'
        self.file_size: int | None = None  # of the largest file that a forked child may write
        self.output = folder / 'output.txt'
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / 'config.py'
        self.config.write_text(f'_base_ = [{str(DEMO)!r}]\n{MIXUP}{text}\n')
        options = {key.replace('__', '.'): value for key, value in options.items()}
        self.options = {**TINY, **DROP_PATH, 'log_level': 'INFO', **options}
        if 'by_epoch=False, max_iters' in text:
            del self.options['train_cfg.max_epochs']

    def arguments(self, *more: str) -> list[str]:
        settings = [f'{key}={str(value).replace(" ", "")}' for key, value in self.options.items()]
        return [
            *(str(self.config), *(['2'] if self.processes > 1 else [])),
            *('--work-dir', str(self.work_dir), *more, '--cfg-options', *settings),
        ]

    def start(self, *more: str) -> 'Child':
        """Start training; `more` are arguments of tools/train.py."""
        if self.processes > 1:
            return self._start_launcher(*more)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return Child(pid)
        code = 1
        try:
            file = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            sys.stdout = sys.stderr = os.fdopen(file, 'w', buffering=1)
            for handler in MMLogger.get_current_instance().handlers:
                if type(handler) is logging.StreamHandler:
                    handler.stream = sys.stdout  # setStream flushes the one that pytest closed
            os.setsid()
            if self.file_size is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size, self.file_size))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.argv = ['train.py', *self.arguments(*more)]
            runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code or 0)

    def _start_launcher(self, *more: str) -> 'Child':
        environment = {
            **os.environ,
            'PYTHON': sys.executable,
            'OMP_NUM_THREADS': '1',
            'PYTHONPATH': str(ROOT),
        }
        with self.output.open('a') as output:
            process = subprocess.Popen(
                [str(ROOT / 'tools/dist_train.sh'), *self.arguments(*more)],
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        return Child(process.pid)

    def run(self, *more: str) -> int:
        """Train to the end; return the exit code."""
        return self.start(*more).wait(300)

    def said(self) -> str:
        """Return the output of all runs."""
        return self.output.read_text(errors='replace') if self.output.exists() else ''

    def newest(self) -> Path | None:
        saved = sorted(self.work_dir.glob('[ei]*_*.pth'), key=lambda path: path.stat().st_mtime)
        return saved[-1] if saved else None

    def final(self) -> dict:
        """Return the parts of the last checkpoint that are compared."""
        checkpoint = torch.load(self.newest(), weights_only=True)
        assert checkpoint.keys() >= set(COMPARED)
        return {key: checkpoint[key] for key in COMPARED}

    def wait_for(self, happened, child: 'Child', seconds: float = 120) -> bool:
        """Wait until `happened()`; False where the child ended first."""
        end = time.monotonic() + seconds
        while not happened():
            if child.code() is not None:
                return False
            assert time.monotonic() < end, self.said()[-3000:]
            time.sleep(0.001)
        return True


class Child:
    """A process that this one started."""

    def __init__(self, pid: int):
        self.pid, self._code = pid, None

    def code(self) -> int | None:
        """Return the exit code, or minus the signal; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, seconds: float) -> int:
        end = time.monotonic() + seconds
        while self.code() is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f'process {self.pid} did not end in {seconds} s')
            time.sleep(0.01)
        return self._code

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.code() is None:
            os.kill(self.pid, number)

    def children(self) -> set[int]:
        """Return the processes that this one has started and that are there."""
        return {pid for pid, parent in _parents().items() if parent == self.pid}

    def descendants(self) -> set[int]:
        """Return the processes below this one, now."""
        parents, found, new = _parents(), set(), {self.pid}
        while new:
            new = {pid for pid, parent in parents.items() if parent in new} - found
            found |= new
        return found


def _parents() -> dict[int, int]:
    parents = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(')')[2].split()[1])
        except OSError:  # it has ended
            continue
    return parents


def are_running(pids: set[int]) -> set[int]:
    """Return those that run, zombies excluded."""
    running = set()
    for pid in pids:
        try:
            state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
        except OSError:
            continue
        if state not in 'ZX':
            running.add(pid)
    return running


def kill_and_resume(training: Training, kills: int, seed: int, in_write: bool = False) -> int:
    """Kill a training `kills` times with SIGKILL, resuming after each, and let it end.

    Args:
        in_write: kill while a checkpoint is written, rather than at a random moment.

    Returns:
        The number of kills that left a partial checkpoint.
    """
    chance, killed, within = random.Random(seed), 0, 0
    more = ()
    while killed < kills:
        child = training.start(*more)
        lines = training.said().count('Epoch(train)') + training.said().count('Iter(train)')

        def has_begun(lines=lines):
            said = training.said()
            return said.count('Epoch(train)') + said.count('Iter(train)') > lines

        def is_writing():
            return any(training.work_dir.glob('*.pth*.partial'))

        if not training.wait_for(is_writing if in_write else has_begun, child):
            raise AssertionError(f'ended before kill {killed + 1}:\n{training.said()[-2000:]}')
        if not in_write:
            time.sleep(chance.random() * MOMENTS)
        elif chance.random() < 0.5:
            time.sleep(chance.random() * 0.02)
        child.kill()
        assert child.wait(60) == -signal.SIGKILL, training.said()[-2000:]
        killed += 1
        within += is_writing()
        more = ('--resume',)
    assert training.run('--resume') == 0, training.said()[-3000:]
    return within
