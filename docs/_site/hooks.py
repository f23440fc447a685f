"""Hooks of MkDocs: files from outside of docs/, links, tables, tutorials, figures and equations.

Pages are written so that their links work in a checkout as well; here they are turned into those
of the site.
"""

import html
import posixpath
import re
import subprocess
import sys
from pathlib import Path

from latex2mathml.converter import convert as to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from figures import FIGURES, to_svg  # noqa: E402
from tables import insert_tables  # noqa: E402
from tutorials import to_page  # noqa: E402

# Files of the repository that are part of the site, at the same paths.
OUTSIDE = (
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'Makefile',
    'requirements.txt',
    'model-index.yml',
    'benchmarks/*.md',
    'benchmarks/pictures/*.svg',
    'benchmarks/*.py',
    'configs/*/README.md',
    'configs/**/*.py',
    'mmvitlin/**/*.py',
    'tests/**/*.py',
    'tests/stacks/*.txt',
    'tools/**/*.py',
)
LINK = re.compile(r'(\]\()([^)#\s]+)((?:#[^)]*)?\))')
CODE = re.compile(r'^(```|~~~).*?^\1', re.MULTILINE | re.DOTALL)
EQUATION = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def repository_path(src_uri: str) -> str:
    """Return the path in the repository of a file of the site."""
    if src_uri == 'index.md' or not (ROOT / src_uri).exists():
        return f'docs/{src_uri}'
    return src_uri


def site_path(path: str) -> str:
    """Return the path in the site of a file of the repository."""
    if path == 'README.md':
        return 'index.md'
    path = path.removeprefix('docs/')
    return re.sub(r'^tutorials/([\w-]+)\.py$', r'tutorials/\1.md', path)


def tracked_files() -> list[str]:
    """List the files of the repository that belong to the site."""
    listed = subprocess.run(
        ['git', 'ls-files', '--', *(f':(glob){pattern}' for pattern in OUTSIDE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add files from outside of docs/, tutorials as pages, and figures."""
    for path in tracked_files():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for script in sorted((ROOT / 'docs/tutorials').glob('*.py')):
        page = to_page(script.read_text(), script.name)
        files.append(File.generated(config, f'tutorials/{script.stem}.md', content=page))
    for name, draw in FIGURES.items():
        path = f'images/{name}.svg'
        if files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, content=to_svg(draw())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert tables, and turn links of the repository into links of the site."""
    markdown = insert_tables(markdown)
    own = page.file.src_uri
    here = posixpath.dirname(repository_path(own))

    def relink(match: re.Match) -> str:
        target = match[2]
        if '://' in target or target.startswith(('mailto:', '/')):
            return match[0]
        target = site_path(posixpath.normpath(posixpath.join(here, target)))
        return match[1] + posixpath.relpath(target, posixpath.dirname(own) or '.') + match[3]

    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(match[0])
        return f'\0{len(kept) - 1}\0'

    markdown = LINK.sub(relink, CODE.sub(keep, markdown))
    return re.sub('\0(\\d+)\0', lambda match: kept[int(match[1])], markdown)


def on_page_content(html_text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn equations into MathML: no script has to be loaded to show them."""

    def render(match: re.Match) -> str:
        is_block = match[1] == 'div'
        return to_mathml(
            html.unescape(match[2]).strip()[2:-2], display='block' if is_block else 'inline'
        )

    return EQUATION.sub(render, html_text)
