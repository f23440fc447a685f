"""Tutorials: scripts in cells, shown as pages.

A cell begins with `# %%`; after `# %% [markdown]` its comments are text. A picture that the text
shows as `pictures/NAME.png` is one that the script draws.
"""

import re

CELL = re.compile(r'^# %%(.*)$', re.MULTILINE)


def split_cells(script: str) -> list[tuple[bool, str]]:
    """Split a script into cells: (is it text, content)."""
    parts = CELL.split(script)[1:]
    cells = []
    for head, body in zip(parts[::2], parts[1::2]):
        is_text = 'markdown' in head
        if is_text:
            body = re.sub(r'^# ?', '', body, flags=re.MULTILINE)
        cells.append((is_text, body.strip('\n')))
    return cells


def to_page(script: str, name: str) -> str:
    """Turn a script into a page of Markdown."""
    pages = [
        content if text else f'```python\n{content}\n```' for text, content in split_cells(script)
    ]
    run = f'The whole script is `docs/tutorials/{name}`; run it from the root of the repository:'
    return '\n\n'.join([*pages, run, f'```bash\npython docs/tutorials/{name}\n```'])


def pictures_of(script: str) -> list[str]:
    """List the pictures that a tutorial shows."""
    return re.findall(r'\(pictures/([\w-]+\.png)\)', script)
