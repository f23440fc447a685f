"""Check everything on a GPU: its tests, then the benchmarks, and one report of both.

python tests/gpu/gpu_check.py writes work_dirs/gpu_check/report.md. The status is 1 where a test
failed, or where there is no GPU, which it says in a line.
"""

import platform
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import torch

from mmvitlin.checkpoints.atomic_write import atomic_write

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / 'work_dirs/gpu_check'
GROUPS = (
    *('hierarchical-inference', 'hierarchical-growth', 'hierarchical-training'),
    *('plain-inference', 'plain-growth', 'plain-training', 'bfloat16'),
    *('compiled-inference', 'compiled-training', 'attention', 'token-expansion'),
)


def run_tests(out: Path) -> tuple[list[str], bool]:
    """Run the tests of this folder; return lines of the report, and whether all passed."""
    results = out / 'tests.xml'
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:xdist', Path(__file__).parent]
    ended = subprocess.run([*map(str, command), f'--junitxml={results}'], cwd=ROOT, check=False)
    cases = list(ElementTree.parse(results).iter('testcase'))
    lines = ['| test | result | seconds |', '|---|---|--:|']
    for case in cases:
        problems = [part for part in case if part.tag in ('failure', 'error', 'skipped')]
        said = 'passed'
        if problems:
            reason = (problems[0].get('message') or '').splitlines()[:1]
            said = ': '.join([problems[0].tag, *reason]).replace('|', '/')
        lines.append(f'| {case.get("name")} | {said} | {float(case.get("time")):.1f} |')
    return lines, ended.returncode == 0


def run_benchmarks(out: Path) -> list[str]:
    """Run the benchmarks on the GPU; return their tables."""
    command = [sys.executable, ROOT / 'benchmarks/benchmark.py', '--device', 'cuda']
    command += ['--out', out / 'benchmarks', '--only', *GROUPS]
    ended = subprocess.run([*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    failed = [f'The benchmarks ended with status {ended.returncode}.'] * bool(ended.returncode)
    return [*ended.stdout.splitlines(), *failed]


def main() -> None:
    """Run everything and write the report."""
    if not torch.cuda.is_available():
        raise SystemExit('gpu-check: torch finds no CUDA GPU here, so nothing was checked')
    OUT.mkdir(parents=True, exist_ok=True)
    tests, passed = run_tests(OUT)
    lines = [
        f'# {torch.cuda.get_device_name()} x {torch.cuda.device_count()}',
        '',
        f'torch {torch.__version__}, CUDA {torch.version.cuda}, {platform.platform()}',
        '',
        f'## Tests: {"all passed" if passed else "some failed"}',
        '',
        *tests,
        '',
        '## Benchmarks',
        *run_benchmarks(OUT),
    ]
    report = OUT / 'report.md'
    with atomic_write(report) as partial:
        partial.write_text('\n'.join(lines) + '\n')
    print(f'gpu-check: {"all tests passed" if passed else "some tests failed"}; report in {report}')
    raise SystemExit(0 if passed else 1)


if __name__ == '__main__':
    main()
