"""The table of ways out of the package is made, and nothing in it fails."""

import subprocess
import sys

import pytest
from tiny_run import ROOT


@pytest.mark.slow
def test_a_row_has_a_cell_for_each_column_and_no_failure():
    columns = ['trace', 'func.grad', 'LoRA', 'FSDP2']
    command = [sys.executable, ROOT / 'tests/deployment_table.py', '--rows', 'LV', '--columns']
    done = subprocess.run(
        [*map(str, command), *columns], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith('| LV-ViT'))
    assert row.count('|') == len(columns) + 2
    assert 'fails' not in row, done.stdout
