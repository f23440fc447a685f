"""Running the tools as a user does, in this process where that is enough."""

import runpy
import subprocess
import sys

import pytest
from mmengine.runner import CheckpointLoader
from tiny_run import ROOT


@pytest.fixture
def run_tool(monkeypatch):
    """Run tools/NAME with arguments in this process; SystemExit is the program's end."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())

    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')

    return run


def run_command(*command, **options):
    """Run a program; return what it printed, or fail showing it."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)
    assert done.returncode == 0, f'{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
    return done.stdout + done.stderr
