"""The code of the pages runs, tables are complete, and figures can be drawn."""

import re
import sys

import pytest
from mmengine.config import Config
from tiny_run import ROOT

from mmvitlin import registry

sys.path.insert(0, str(ROOT / 'docs/_site'))
from figures import FIGURES, to_svg
from tables import MARKER, TABLES, options_of, recipes_table

PAGES = {path.relative_to(ROOT / 'docs').as_posix(): path for path in ROOT.glob('docs/**/*.md')}
PYTHON = re.compile(r'^```python\n(.*?)^```', re.MULTILINE | re.DOTALL)
# What a page needs that a test cannot have: files of trained models and teachers.
LACKS = ('.pth', 'label_root', 'inferencer')


def blocks() -> list:
    return [
        pytest.param(code, id=f'{page}-{number}')
        for page, path in {**PAGES, 'README.md': ROOT / 'README.md'}.items()
        for number, code in enumerate(PYTHON.findall(path.read_text()))
    ]


@pytest.mark.parametrize('code', blocks())
def test_the_python_of_a_page_runs(code, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    if '_base_.' in code:  # a config that reads its base
        (tmp_path / 'page.py').write_text(code.replace("'configs/", f"'{ROOT}/configs/"))
        assert Config.fromfile(tmp_path / 'page.py')
        return
    compiled = compile(code, '<page>', 'exec')
    if not any(word in code for word in LACKS):
        exec(compiled, {})


@pytest.mark.parametrize('page', PAGES)
def test_the_tables_of_a_page_are_filled(page):
    for kind, argument in MARKER.findall(PAGES[page].read_text()):
        if kind in TABLES:
            assert TABLES[kind](argument).count('\n|') > 2


def test_no_option_is_without_a_description():
    """This holds for every registered class with its own arguments."""
    missing = []
    for children in vars(registry).values():
        if isinstance(children, registry.ChildRegistry):
            for cls in children.module_dict.values():
                if '__init__' in vars(cls):
                    try:
                        options_of(cls)
                    except LookupError as error:
                        missing.append(str(error))
    assert missing == []


def test_a_recipe_table_has_every_config():
    configs = [path.stem for path in ROOT.glob('configs/lion/*.py')]
    table = recipes_table('lion')
    assert [name for name in configs if f'[{name}](' not in table] == []


@pytest.mark.parametrize('name', FIGURES)
def test_a_figure_is_drawn(name):
    svg = to_svg(FIGURES[name]())
    assert svg.startswith(b'<?xml') and b'<path' in svg


def test_every_figure_is_shown():
    text = ''.join(path.read_text() for path in PAGES.values())
    assert [name for name in FIGURES if f'images/{name}.svg' not in text] == []


def test_the_architecture_of_the_readme_is_that_of_the_code():
    """The texts of the picture, which name layers and parameters; fonts may differ."""
    kept = (ROOT / 'docs/images/architecture.svg').read_text()
    drawn = to_svg(FIGURES['architecture']()).decode()
    texts = re.compile(r'<text[^>]*>([^<]*)</text>')
    assert texts.findall(kept) == texts.findall(drawn)


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r'- ([\w/-]+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.MULTILINE))
    tutorials = {f'tutorials/{path.stem}.md' for path in ROOT.glob('docs/tutorials/*.py')}
    assert listed == {*PAGES, *tutorials, 'CHANGELOG.md', 'CONTRIBUTING.md'}
