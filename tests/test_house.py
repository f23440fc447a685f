"""Imports within the package run along the arrows of CONTRIBUTING, and along no others."""

import ast
from pathlib import Path

import pytest
from tiny_run import ROOT

from mmvitlin.engine.hosts import HOSTS

PACKAGE = ROOT / 'mmvitlin'
EVERYBODY = {'errors', 'registry', 'compat', 'version', 'checks'}
# Part of the package -> the parts that it may import.
ARROWS = {
    'errors': set(),
    'registry': set(),
    'compat': set(),
    'version': set(),
    'checks': set(),
    'ops': set(),
    'layers': {'ops'},
    'checkpoints': set(),
    'models': {'ops', 'layers', 'checkpoints'},
    'engine': {'checkpoints'},
    'datasets': {'ops', 'checkpoints'},
    'evaluation': {'ops'},
    'curricula': {'ops', 'engine'},
    'apis': {'checkpoints', 'datasets', 'engine'},
    'export': {'checkpoints', 'engine'},
    '__init__': {'models', 'datasets', 'engine', 'curricula', 'evaluation'},
}
# Modules that may import a host when they are imported themselves.
EXTENSIONS = {
    'apis/detection.py': {'mmdet'},
    'apis/segmentation.py': {'mmseg'},
    'apis/pose.py': {'mmpose'},
    'apis/hub.py': {'mmpretrain'},
    'models/backbones/deit.py': {'mmpretrain'},
    'models/classifiers/distillation.py': {'mmpretrain'},
    'models/detectors/yolos_head.py': {'mmdet'},
    'models/teachers/frozen_teacher.py': {'mmpretrain'},
}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py'))


def part_of(module: str) -> str:
    return module.partition('/')[0].removesuffix('.py')


def imports(node: ast.AST) -> set[str]:
    """Dotted names of the modules that are imported anywhere below a node."""
    names = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            names |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            names |= {f'{child.module}.{alias.name}' for alias in child.names}
    return names


def parts_imported(module: str) -> set[str]:
    names = imports(ast.parse((PACKAGE / module).read_text()))
    ours = {name.split('.')[1] for name in names if name.startswith('mmvitlin.')}
    return {part for part in ours if part in ARROWS}


@pytest.mark.parametrize('module', MODULES)
def test_a_module_imports_along_the_arrows(module):
    part = part_of(module)
    assert parts_imported(module) <= ARROWS[part] | EVERYBODY | {part}


@pytest.mark.parametrize('module', MODULES)
def test_a_host_is_imported_only_by_what_extends_it(module):
    tree = ast.parse((PACKAGE / module).read_text())
    at_import = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    found = {name.partition('.')[0] for node in at_import for name in imports(node)} & set(HOSTS)
    assert found <= EXTENSIONS.get(module, set())


def test_every_arrow_is_used():
    used = {part: set() for part in ARROWS}
    for module in MODULES:
        used[part_of(module)] |= parts_imported(module) & ARROWS[part_of(module)]
    assert used == ARROWS


OWN = ('self', 'super()')  # what a host's class offers to its subclasses


def private(name: str) -> bool:
    return name.startswith('_') and not name.startswith('__')


def defined_here() -> set[str]:
    """Private names that the package itself defines: functions, classes, variables, attributes."""
    names = set()
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names |= {node.attr} if ast.unparse(node.value) == 'self' else set()
    return names


def test_private_names_of_hosts_are_used_in_compat_alone():
    """Except on `self` and `super()`, whose private names a host's class offers to subclasses."""
    ours, found = defined_here() | {'_replace'}, []  # of NamedTuple, public
    for module in MODULES:
        if module == 'compat.py':
            continue
        tree = ast.parse((PACKAGE / module).read_text())
        attributes = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and ast.unparse(node.value) not in ('self', 'super()')
        }
        found += [f'{module}: {name}' for name in attributes if private(name) and name not in ours]
        found += [
            f'{module}: {name}'
            for name in imports(tree)
            if not name.startswith('mmvitlin.') and any(map(private, name.split('.')))
        ]
    assert found == []


def test_contributing_shows_the_same_parts():
    text = Path(ROOT / 'CONTRIBUTING.md').read_text()
    shown = {part for part in ARROWS if f'{part}/' in text or f'{part}.py' in text}
    assert shown >= {p for p in ARROWS if (PACKAGE / p).is_dir()}


def test_no_summary_of_a_docstring_begins_with_a_question_word():
    found = []
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                first = (ast.get_docstring(node) or '').split(' ')[0]
                if first in ('What', 'Where', 'How', 'Whether'):
                    found.append(f'{module}: {getattr(node, "name", "module")}')
    assert found == []
