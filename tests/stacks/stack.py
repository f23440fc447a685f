"""Run what should hold on every stack of versions, in the environment of one, and print it.

make test-stack STACK=torch21

runs the tests of `TESTS` that take seconds, and the trainings of `TRAININGS`: classifiers,
detectors and segmentors, by our tools and by the hosts' own. What only reads configs or our own
files is left to `make test`. A test that fails for something that the stack lacks is skipped with
the reason: compiled ops, float16 on a CPU, or a part of torch newer than 2.1. On other stacks
nothing is skipped.
--docs writes the result into the table of docs/reference/stacks.md.
"""

import argparse
import platform
import re
import sys
from collections import Counter
from datetime import date
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.utils import digit_version

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/reference/stacks.md'
TESTS = (
    'tests/test_apis/test_by_name.py',
    'tests/test_apis/test_hub.py',
    'tests/test_checkpoints',
    'tests/test_curricula',
    'tests/test_datasets',
    'tests/test_dense_tasks.py',
    'tests/test_engine',
    'tests/test_evaluation',
    'tests/test_layers',
    'tests/test_models',
    'tests/test_ops',
    'tests/test_registry.py',
    'tests/test_tools',
)
TRAININGS = (
    'tests/test_engine/test_safe_checkpoint_hook.py',
    'tests/test_tools/test_scene_quickstarts.py',
    'tests/test_tools/test_train_and_test.py',
)
SHOWN = ('torch', 'numpy', 'mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmsegmentation')
NO_OPS = "No module named 'mmcv._ext'"
NO_HALF = ("not implemented for 'Half'", 'AutocastCPU only support Bfloat16')
# What torch 2.1 lacks and our code does not need, by the first words of the error.
NEWER_TORCH = {
    'torch._dynamo.exc.Unsupported': 'torch.compile',
    "module 'torch.export' has no attribute 'Dim'": 'torch.export',
    'exporting needs torch 2.6': 'torch.export',
    'Batching rule not implemented for aten::_scaled_dot_product': 'torch.func over attention',
    "module 'torch' has no attribute 'meta'": 'checkpointing on the meta device',
    "module 'torch.serialization' has no attribute": 'torch.serialization',
    'Unsupported class _codecs.encode': 'torch.load, for bytes',
}


def find_lacks() -> dict[str, str]:
    """Return what this stack lacks: message of an error -> the reason to skip a test for it."""
    lacks = {}
    if find_spec('mmcv._ext') is None:
        lacks[NO_OPS] = 'needs the compiled ops of mmcv'
    try:
        torch.ones(2, 2).half() @ torch.ones(2, 2).half()
    except RuntimeError as error:
        assert NO_HALF[0] in str(error)
        lacks |= dict.fromkeys(NO_HALF, 'needs float16 on a CPU')
    if digit_version(torch.__version__) < digit_version('2.6'):
        lacks |= {error: f'needs a newer {name}' for error, name in NEWER_TORCH.items()}
    return lacks


class Selection:
    """A plugin of pytest that picks the tests, skips by `lacks`, and counts."""

    def __init__(self, lacks: dict[str, str]):
        self.lacks = lacks
        self.counts = Counter()
        self.skipped = Counter()

    def find_reason(self, text: str) -> str | None:
        return next((reason for message, reason in self.lacks.items() if message in text), None)

    def pytest_collection_modifyitems(self, config, items):
        dropped = [
            item
            for item in items
            if item.get_closest_marker('slow')
            and item.path.relative_to(ROOT).as_posix() not in TRAININGS
        ]
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in set(dropped)]

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        report = yield
        reason = self.find_reason(report.longreprtext) if report.failed else None
        if reason:
            report.outcome = 'skipped'
            report.longrepr = (str(collector.path), 0, f'Skipped: {reason} (the whole file)')
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        reason = self.find_reason(report.longreprtext) if report.failed else None
        if reason:
            report.outcome = 'skipped'
            report.longrepr = (str(item.path), item.location[1], f'Skipped: {reason}')
        return report

    def pytest_collectreport(self, report):
        self.count(report, counted=not report.passed)

    def pytest_runtest_logreport(self, report):
        self.count(report, counted=report.when == 'call' or not report.passed)

    def count(self, report, counted: bool):
        if counted:
            self.counts[report.outcome] += 1
        if counted and report.skipped:
            self.skipped[report.longrepr[2].removeprefix('Skipped: ')] += 1


def versions() -> str:
    """Return the versions of Python and of the packages, with the names of the distributions."""
    names = []
    for name in SHOWN:
        for candidate in (name, f'{name}-lite', f'onedl-{name}', f'onedl-{name}ection'):
            try:
                names.append(f'{candidate} {distribution(candidate).version}')
                break
            except ImportError:
                continue
    return ', '.join([f'Python {platform.python_version()}', *names])


def write_row(stack: str, cells: list[str]) -> None:
    """Put a row in the place of the stack's old one."""
    row = f'| {" | ".join([f"`{stack}`", *cells])} |'
    text, replaced = re.subn(rf'^\| `{stack}` \|.*$', lambda _: row, PAGE.read_text(), flags=re.M)
    assert replaced == 1, f'{PAGE} has no row for {stack}'
    PAGE.write_text(text)


def main() -> int:
    """Run the tests; return the exit status of pytest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('stack', help='the name in the table: torch21, pinned, newest or onedl')
    parser.add_argument('--docs', action='store_true', help=f'write {PAGE.relative_to(ROOT)}')
    parser.add_argument('tests', nargs='*', default=list(TESTS), help='tests to run instead of all')
    arguments = parser.parse_args()
    selection = Selection(find_lacks())
    paths = [str(ROOT / path) for path in arguments.tests]
    options = ['-q', '--rootdir', str(ROOT), '-p', 'no:cacheprovider', '-p', 'no:xdist']
    status = int(pytest.main([*options, *paths], plugins=[selection]))
    counts, skipped = selection.counts, selection.skipped
    reasons = '; '.join(f'{number} {reason}' for reason, number in skipped.most_common()) or '0'
    cells = [versions(), str(counts['passed']), str(counts['failed']), reasons]
    print(f'{arguments.stack}: {cells[0]}', f'passed {cells[1]}, failed {cells[2]}', sep='\n')
    print(f'skipped: {reasons}')
    if arguments.docs:
        write_row(arguments.stack, [*cells, date.today().isoformat()])
    return status


if __name__ == '__main__':
    sys.exit(main())
