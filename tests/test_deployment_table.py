"""The table of ways out of the package is made, stored and gone on with."""

import json
import subprocess
import sys

import pytest
from tiny_run import ROOT


@pytest.mark.slow
def test_a_row_has_a_cell_for_each_column_and_stored_cells_are_not_run_again(tmp_path):
    columns = ['trace', 'func.grad', 'FSDP2']
    cells = tmp_path / 'cells.json'
    stored = dict(text='stored', torch='', date='')
    cells.write_text(json.dumps({'LV-ViT': {'trace': stored}}))
    command = [sys.executable, ROOT / 'tests/deployment_table.py', '--rows', 'LV-ViT']
    command += ['--cells', cells, '--columns', *columns]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if line.startswith('| LV-ViT |'))
    assert row.split('|')[2].strip() == 'stored'
    assert row.count('|') == len(columns) + 2
    assert 'no (' not in row, done.stdout
