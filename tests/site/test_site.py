"""The site is built without a warning, and shows itself without the network."""

import os
import re
import subprocess
import sys

import pytest
from tiny_run import ROOT

LOADED = re.compile(r'<(?:script|img|iframe)[^>]*src="([^"]*)"|<link[^>]*rel="(?!canonical)[^>]*>')


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {'NO_MKDOCS_2_WARNING': '1'},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path: path.read_text() for path in tmp_path.rglob('*.html')}
    assert len(pages) > 40
    loaded = [match[0] for text in pages.values() for match in LOADED.finditer(text)]
    assert loaded and not [tag for tag in loaded if '//' in tag]
    assert '<math' in pages[tmp_path / 'explanation/chunks.html']
    assert '<code>window_size</code>' in pages[tmp_path / 'models/l2vit.html']
