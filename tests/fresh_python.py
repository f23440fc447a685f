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

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.partition('.')[0] in {tuple(without)!r}:
                    raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)

        sys.meta_path.insert(0, Hidden())
        sys.path[:0] = {[path] if path else []!r}
    """
    script = textwrap.dedent(prepare) + textwrap.dedent(code)
    process = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    return process.stdout + process.stderr
