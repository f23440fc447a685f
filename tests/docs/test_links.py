"""Every path that the documents name is there: links, configs and tools in commands."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from tiny_run import ROOT

sys.path.insert(0, str(ROOT / 'docs/_site'))
from tutorials import pictures_of, to_page

PAGES = sorted(ROOT.glob('docs/**/*.md'))
TUTORIALS = sorted(ROOT.glob('docs/tutorials/*.py'))
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(p for folder in ('.', 'benchmarks', 'configs/*') for p in ROOT.glob(f'{folder}/*.md')),
        *PAGES,
        *TUTORIALS,
    )
)
SHELL = re.compile(r'^```bash\n(.*?)^```', re.MULTILINE | re.DOTALL)
PATHS = re.compile(r'(?<![\w./{*])((?:configs|tools|benchmarks|docs)/[\w./-]*\w)(?![\w*{])')
ARGUMENT = re.compile(r"add_argument\(\s*((?:'-[\w-]+',?\s*)+)")
PLACEHOLDER = re.compile(r'/[A-Z]+(/|\.py|$)')  # configs/NAME
# Options of programs that are not ours.
OTHERS = {'pip', 'mim', 'make', 'source', 'tensorboard', 'sha256sum'}


def text_of(document: str) -> str:
    text = (ROOT / document).read_text()
    return to_page(text, Path(document).name) if document.endswith('.py') else text


def commands(text: str) -> list[str]:
    """Return the commands of a page, one per line."""
    lines = '\n'.join(SHELL.findall(text)).replace('\\\n', ' ').splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith('#')]


def options_of(tool: str) -> set[str]:
    """Options that a command line reads, those of the launcher's helper included."""
    source = (ROOT / tool).read_text()
    if 'launch.sh' in source:  # a starter of several processes passes them on
        name = re.sub(r'tools/(dist|slurm)_(\w+)\.sh', r'tools/\2.py', tool)
        source = (ROOT / name).read_text()
    if 'add_common_arguments' in source or 'add_cfg_options' in source:
        source += (ROOT / 'mmvitlin/engine/launcher.py').read_text()
    if 'harness' in source:
        source += (ROOT / 'benchmarks/harness.py').read_text()
    found = re.findall(r"'(--[\w-]+)'", ' '.join(ARGUMENT.findall(source)))
    negated = [f'--no-{name[2:]}' for name in found if 'BooleanOptionalAction' in source]
    return {*found, *negated}


@pytest.mark.parametrize('document', DOCUMENTS)
def test_every_link_leads_somewhere(document):
    path = ROOT / document
    links = re.findall(r'\]\(([^)#\s]+)[^)]*\)', text_of(document))
    files = [link for link in links if '://' not in link]
    drawn = {'images', 'pictures'}  # by the site's figures and by the tutorials: see test_pages.py
    missing = [
        link
        for link in files
        if not (path.parent / link).exists() and Path(link).parent.name not in drawn
    ]
    assert missing == []


@pytest.mark.parametrize('document', DOCUMENTS)
def test_every_path_of_the_repository_exists(document):
    elsewhere = r'\]\([^)]*\)|https?://\S+|own_configs/\S+|\(\S+\.py:\d+\)'  # (a host's file:line)
    text = re.sub(elsewhere, '', text_of(document))
    paths = {path for path in PATHS.findall(text) if not PLACEHOLDER.search(path)}
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize('document', DOCUMENTS)
def test_every_option_of_a_command_exists(document):
    unknown = []
    for command in commands(text_of(document)):
        words = shlex.split(command, comments=True)
        tool = next((word for word in words if word.startswith(('tools/', 'benchmarks/'))), None)
        if tool is None or words[0] in OTHERS:
            continue
        options = {word.partition('=')[0] for word in words if word.startswith('--')}
        unknown += [f'{tool} {option}' for option in sorted(options - options_of(tool))]
    assert unknown == []


def test_the_pictures_of_the_tutorials_are_there():
    shown = [name for path in TUTORIALS for name in pictures_of(path.read_text())]
    there = sorted(path.name for path in ROOT.glob('docs/tutorials/pictures/*.png'))
    assert sorted(shown) == there


def test_the_readme_is_short():
    assert 'README.md' in DOCUMENTS
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 150
