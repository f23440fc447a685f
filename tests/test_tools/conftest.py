"""Running the tools as a user does, in this process where that is enough."""

import re
import runpy
import subprocess
import sys

import pytest
import torch
from mmengine.runner import CheckpointLoader
from tiny_run import ROOT, forget_visualizers


@pytest.fixture
def run_tool(monkeypatch):
    """Run tools/NAME with arguments in this process; SystemExit is the program's end."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())

    def run(name, *arguments):
        forget_visualizers()
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')

    return run


@pytest.fixture
def convert(run_tool, tmp_path, request):
    """Save `content`, convert it with `arguments`; return the content of the new file.

    A test file says in SYSTEM whose checkpoints it converts.
    """

    def run(content, *arguments, src='src.pth', dst='dst.pth', system=None):
        src, dst = tmp_path / src, tmp_path / dst
        torch.save(content, src)
        system = system or request.module.SYSTEM
        run_tool('convert_checkpoint.py', system, src, dst, *arguments)
        return torch.load(dst, weights_only=True)

    return run


@pytest.fixture
def refuses_in_one_line(convert, tmp_path):
    """Return whether converting `content` fails with an error like `message` and writes no file."""

    def run(content, message):
        with pytest.raises(SystemExit) as end:
            convert(content)
        error = end.value.code
        left = (tmp_path / 'dst.pth').exists()
        return bool(re.search(f'^error: .*{message}', error)) and '\n' not in error and not left

    return run


def run_command(*command, **options):
    """Run a program; return its output, or fail with the output."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    return done.stdout + done.stderr
