"""What the documents link to is there."""

import re

import pytest
from tiny_run import ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ('.', 'benchmarks', 'configs/*')
    for path in ROOT.glob(f'{folder}/*.md')
)


@pytest.mark.parametrize('document', DOCUMENTS)
def test_every_link_leads_somewhere(document):
    path = ROOT / document
    links = re.findall(r'\]\(([^)#]+)[^)]*\)', path.read_text())
    files = [link for link in links if '://' not in link]
    assert [link for link in files if not (path.parent / link).exists()] == []


def test_the_readme_is_among_them():
    assert 'README.md' in DOCUMENTS
