"""The script that runs the hosts' tools: what its table holds, and how it reads a failure."""

from importlib import import_module
from pathlib import Path

import pytest
from upstream_tools import HOSTS, explain, find_key


@pytest.mark.parametrize('name', HOSTS)
def test_every_tool_of_a_host_has_an_entry_and_every_entry_a_tool(name):
    folder = Path(import_module(name).__file__).parent / '.mim/tools'
    files = [*folder.rglob('*.py'), *folder.rglob('*.sh')]
    found = {find_key(HOSTS[name], path.relative_to(folder).as_posix()) for path in files}
    assert found == set(HOSTS[name].tools)


@pytest.mark.parametrize(
    ('said', 'outcome'),
    [
        ("ModuleNotFoundError: No module named 'seaborn'", 'not run: needs seaborn'),
        (
            'File "/x/site-packages/mmseg/.mim/tools/a.py", line 3, in <module>\n'
            'File "/x/site-packages/numpy/b.py", line 4, in f\nTypeError: a | b',
            'fails, theirs: `TypeError: a / b` (tools/a.py:3)',
        ),
        (
            'File "/x/site-packages/mmdet/.mim/tools/a.py", line 3, in <module>\n'
            'File "/y/mmvitlin/models/c.py", line 5, in f\nmmcv.x.OddError: why\nKeyError: what',
            'fails, ours: `mmcv.x.OddError: why` (mmvitlin/models/c.py:5)',
        ),
    ],
)
def test_a_failure_is_told_by_its_first_error_and_the_last_line_of_openmmlab(said, outcome):
    assert explain(said) == outcome
