"""The tutorials run, at their smallest, and draw the pictures that they show."""

import subprocess
import sys
import time

import pytest
from tiny_run import ROOT

sys.path.insert(0, str(ROOT / 'docs/_site'))
from tutorials import pictures_of, split_cells

TUTORIALS = sorted(ROOT.glob('docs/tutorials/*.py'))


@pytest.mark.slow
@pytest.mark.parametrize('path', TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs(path):
    if path.stem == 'classify':
        pytest.importorskip('onnxscript')
    begun = time.time()
    done = subprocess.run(
        [sys.executable, str(path), '--small'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    folder = ROOT / 'work_dirs/tutorials' / path.stem
    for picture in pictures_of(path.read_text()):
        assert (folder / picture).stat().st_mtime > begun


@pytest.mark.parametrize('path', TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_alternates_text_and_code(path):
    cells = split_cells(path.read_text())
    assert cells[0][0] and cells[0][1].startswith('# ')
    assert sum(is_text for is_text, _ in cells) > 3
