"""Running code in an interpreter of its own, where what was imported before matters."""

import subprocess
import sys
import textwrap

from tiny_run import ROOT


def run_python(code: str, *, without: tuple[str, ...] = (), path: str | None = None) -> str:
    """Run `code` in a fresh interpreter; return what it printed.

    Args:
        code: what to run; it may be indented.
        without: packages that are to be as if they were not installed.
        path: a folder whose packages come before all others.
    """
    prepare = f"""
        import sys

        from importlib.machinery import PathFinder

        class Without(PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                if name.partition('.')[0] not in {tuple(without)!r}:
                    return super().find_spec(name, path, target)

        sys.meta_path[:] = [Without if f is PathFinder else f for f in sys.meta_path]
        sys.path[:0] = {[path] if path else []!r}
    """
    script = textwrap.dedent(prepare) + textwrap.dedent(code)
    process = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr
