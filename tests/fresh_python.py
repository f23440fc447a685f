"""Running code in a fresh interpreter, for tests that depend on earlier imports.

It is forked from a server process that has imported torch and MMEngine, neither a host nor this
package, which saves most of the time that a new interpreter takes.
"""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import textwrap
import traceback
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['torch', 'torchvision', 'mmengine.runner', 'mmcv.ops', 'sklearn'])


def run_python(code: str, *, without: tuple[str, ...] = (), path: str | None = None) -> str:
    """Run `code` in a fresh interpreter; return its output.

    Args:
        code: what to run; it may be indented.
        without: packages that are to be as if they were not installed.
        path: a folder whose packages come before all others.
    """
    return start_python(code, without=without, path=path).finish()


def run_script(script: Path, *arguments: object) -> str:
    """Run a Python script with arguments as a program; return its output."""
    return start_script(script, *arguments).finish()


def run_ranks(script: Path, *arguments: object, count: int = 2) -> list[str]:
    """Run a tool in the processes that torchrun would start; return the output of each."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    shared = dict(WORLD_SIZE=count, LOCAL_WORLD_SIZE=count, MASTER_ADDR='127.0.0.1')
    shared['MASTER_PORT'] = port
    ranks = [
        start_script(script, *arguments, '--launcher', 'pytorch', RANK=k, LOCAL_RANK=k, **shared)
        for k in range(count)
    ]
    return [rank.finish() for rank in ranks]


def start_python(code: str, *, without: tuple[str, ...] = (), path: str | None = None) -> 'Fresh':
    """Start what `run_python` runs."""
    return Fresh(_execute, f'import sys\n{textwrap.dedent(code)}', tuple(without), path)


def start_script(script: Path, *arguments: object, **environment: object) -> 'Fresh':
    """Start what `run_script` runs, with `environment` in its environment."""
    variables = {name: str(value) for name, value in environment.items()}
    return Fresh(_run_path, str(script), [str(argument) for argument in arguments], variables)


class Fresh:
    """A program in a fresh interpreter: `process`, and its output by `finish()`."""

    def __init__(self, function, *arguments):
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name, 'output.txt')
        arguments = (str(self._output), function, *arguments)
        self.process = SERVER.Process(target=_in_child, args=arguments)
        self.process.start()

    def kill(self) -> None:
        """End it by SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.join()
        self._folder.cleanup()

    def finish(self) -> str:
        """Wait for its end; return its output, or fail with it."""
        self.process.join(300)
        with self._folder:
            said = self._output.read_text(errors='replace')
        assert self.process.exitcode == 0, f'exit code {self.process.exitcode}:\n{said[-6000:]}'
        return said


def _in_child(output, function, *arguments):
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = sys.stderr = os.fdopen(file, 'w', buffering=1)
    os.chdir(ROOT)
    code = 1
    try:
        function(*arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _execute(code, without, path):
    class Without(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name.partition('.')[0] not in without:
                return super().find_spec(name, path, target)

    sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
    sys.path[:0] = [path] if path else []
    exec(compile(code, 'code', 'exec'), {'__name__': '__main__'})


def _run_path(script, arguments, environment):
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name='__main__')
