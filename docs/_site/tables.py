"""Tables of the documentation: options from signatures and docstrings, recipes from metafiles."""

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ARGUMENT = re.compile(r'([\w, ]+): (.*)', re.DOTALL)


def find_class(name: str) -> type:
    """Return a class by its name in a config, 'mmvitlin.L2ViT', or by its module."""
    module, _, attribute = name.rpartition('.')
    if module != 'mmvitlin':
        return getattr(import_module(module), attribute)
    registries = vars(import_module('mmvitlin.registry'))
    for registry in registries.values():
        found = registry.get(attribute) if type(registry).__name__ == 'ChildRegistry' else None
        if found is not None:
            return found
    raise LookupError(f'no registry of mmvitlin has {attribute!r}')


def document_arguments(cls: type) -> dict[str, str]:
    """Read the descriptions of arguments in the docstrings of a class and of its bases."""
    described: dict[str, str] = {}
    for base in cls.__mro__:
        for doc in (base.__doc__, base.__init__.__doc__):
            for name, text in read_args_section(inspect.cleandoc(doc or '')).items():
                described.setdefault(name, text)
    return described


def read_args_section(doc: str) -> dict[str, str]:
    """Read the section `Args` of a docstring: name -> text, in one line."""
    match = re.search(r'^Args:\n((?:[ \t]+.*\n?|\n)+)', doc, re.MULTILINE)
    if match is None:
        return {}
    entries = re.split(
        r'\n(?=    \S)', '\n' + inspect.cleandoc('\n' + match[1]).replace('\n', '\n    ')
    )
    described = {}
    for entry in entries:
        found = ARGUMENT.match(entry.strip())
        if found:
            text = ' '.join(found[2].split())
            described.update(dict.fromkeys(re.split(r',\s*', found[1]), text))
    return described


def options_of(cls: type) -> list[tuple[str, str, str, str]]:
    """List the arguments of a class: name, type, default, description.

    Raises:
        LookupError: an argument that no docstring describes.
    """
    described, rows = document_arguments(cls), []
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if name not in described:
            raise LookupError(f'no docstring describes the argument {name} of {cls.__name__}')
        kind = parameter.annotation
        kind = '' if kind is parameter.empty else getattr(kind, '__name__', str(kind))
        if '|' in str(parameter.annotation) or '[' in str(parameter.annotation):
            kind = str(parameter.annotation)
        kind = re.sub(r'\b(?:\w+\.)+(\w+)', r'\1', kind)
        default = 'needed' if parameter.default is parameter.empty else repr(parameter.default)
        rows.append((name, kind, default, described[name]))
    return rows


def escape_pipes(text: str) -> str:
    """Escape what would end a cell of a table; in code it does not."""
    parts = text.split('`')
    return '`'.join(p if i % 2 else p.replace('|', '\\|') for i, p in enumerate(parts))


def options_table(name: str) -> str:
    """Write the options of a class as a Markdown table."""
    lines = [
        f'Options of `{name}`:',
        '',
        '| option | type | default | meaning |',
        '|---|---|---|---|',
    ]
    for option, kind, default, text in options_of(find_class(name)):
        shown = default if default == 'needed' else f'`{default}`'
        kind = f'`{kind}`' if kind else ''
        lines.append(f'| `{option}` | {kind} | {shown} | {escape_pipes(text)} |')
    return '\n'.join(lines)


def recipes_table(folder: str) -> str:
    """Write the recipes of a folder of configs/ as a Markdown table, from its metafile."""
    models = yaml.safe_load((ROOT / f'configs/{folder}/metafile.yml').read_text())['Models']
    lines = [
        '| config | task | parameters | GFLOPs | image | batch | length | published |',
        '|---|---|--:|--:|---|--:|---|---|',
    ]
    for model in models:
        meta, result = model['Metadata'], model['Results'][0]
        length = next(
            (f'{meta[key]} {key.lower()}' for key in ('Epochs', 'Iterations') if key in meta), ''
        )
        published = ', '.join(f'{name}: {value}' for name, value in result['Metrics'].items())
        cells = (
            f'[{model["Name"]}](../../{model["Config"]})',
            f'{result["Task"]}, {result["Dataset"]}',
            f'{meta["Parameters"] / 1e6:.1f}M',
            f'{meta["FLOPs"] / 1e9:.1f}' if 'FLOPs' in meta else '',
            meta.get('Image Size', ''),
            str(meta.get('Batch Size', '')),
            length,
            published,
        )
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


# `<!-- options mmvitlin.L2ViT -->` in a page is replaced by the table.
TABLES: dict[str, Callable[[str], str]] = {'options': options_table, 'recipes': recipes_table}
MARKER = re.compile(r'<!-- (\w+) ([\w./-]+) -->')


def insert_tables(markdown: str) -> str:
    """Replace the markers of a page by their tables."""
    return MARKER.sub(
        lambda match: TABLES[match[1]](match[2]) if match[1] in TABLES else match[0], markdown
    )
