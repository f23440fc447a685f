"""Measurement of time and memory, which all scripts in this folder use.

A `Case` builds a step, a `Group` compares cases with one of them, the peer, and `run` measures
groups. Cases are timed in turns, because the speed of a shared machine changes: two turns of one
round run at nearly the same speed, so their ratio is more reliable than their times. Peak memory is
measured in a separate process per case.
"""

import argparse
import json
import os
import pickle
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from mmvitlin.checkpoints.atomic_write import atomic_write
from mmvitlin.layers import use_onednn_linears

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'work_dirs' / 'benchmarks'
TURN_SECONDS = 0.1  # a turn lasts at least this long; a short step is repeated
MEMORY_STEPS = 3  # from the second training step on, the optimiser has its state throughout
MEBIBYTE = 2**20
PEAK_MEMORY = {'cpu': 'growth of peak RSS', 'cuda': 'torch.cuda.max_memory_allocated'}

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Row of a table.

    Args:
        name: name of the case.
        build: creates the step to measure, with its models and inputs. It must be picklable: a
            function at the top of a module, or `functools.partial` of one.
    """

    name: str
    build: Callable[[], Step]

    def __post_init__(self):
        try:
            pickle.dumps(self.build)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f'case {self.name!r}: build must be a function at the top of a module, or '
                f'functools.partial of one, got {self.build!r}, which cannot be pickled'
            ) from error


@dataclass(frozen=True)
class Group:
    """Cases of one setting, and the name of the peer, with which the others are compared."""

    name: str
    peer: str
    cases: Sequence[Case]

    def __post_init__(self):
        names = [case.name for case in self.cases]
        if len(set(names)) < len(names):
            raise ValueError(f'group {self.name!r}: the names of cases must differ, got {names}')
        if self.peer not in names:
            raise ValueError(f'group {self.name!r}: peer {self.peer!r} is not among {names}')


# Steps of a model, for the scripts


def inference(build_model: Callable[[], nn.Module], shape: Sequence[int], device: str) -> Step:
    """Create a step: a forward pass on random images of `shape`, without gradients."""
    model = build_model().to(device)
    model.eval()
    images = torch.randn(*shape, device=device)
    return torch.inference_mode()(lambda: model(images))


def training(build_model: Callable[[], nn.Module], shape: Sequence[int], device: str) -> Step:
    """Create a step: forward, backward from random gradients of every output, and AdamW.

    The gradient of a mean would be too simple: the mean of a LayerNorm's output hardly depends on
    its input, so the backward pass would compute with numbers close to zero.
    """
    model = build_model().to(device)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    images = torch.randn(*shape, device=device)

    def outputs() -> Sequence[Tensor]:
        outs = model(images)
        return [outs] if isinstance(outs, Tensor) else outs

    gradients = [torch.randn_like(out) / out.numel() for out in outputs()]

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(outputs(), gradients)
        optimizer.step()

    return step


def onednn(build_model: Callable[..., nn.Module], *args) -> nn.Module:
    """Build a model with its linear layers on oneDNN."""
    return use_onednn_linears(build_model(*args))


# What --linears names -> what it adds to the name of a model.
LINEARS = {'plain': '', 'onednn': ', oneDNN linears'}


def with_linears(
    models: Mapping[str, Callable[..., nn.Module]], kinds: Sequence[str]
) -> dict[str, Callable[..., nn.Module]]:
    """Return names -> builders of all models, ours and the peer, per kind of linear layers."""
    return {
        name + LINEARS[kind]: build if kind == 'plain' else partial(onednn, build)
        for kind in kinds
        for name, build in models.items()
    }


def peer_with(name: str, kinds: Sequence[str]) -> str:
    """Return the name of the peer: with plain linear layers where these are measured."""
    return name + LINEARS['plain' if 'plain' in kinds else kinds[0]]


# Options


def option_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Create a parser with the options of all benchmarks; a script can add its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(name=name)
    add = parser.add_argument
    add('--device', choices=list(PEAK_MEMORY), default='cpu')
    add(
        '--threads',
        type=_positive,
        default=cores,
        help=f'threads of torch on the CPU (default: {cores})',
    )
    add('--rounds', type=_positive, default=12, help='turns of each case (default: %(default)s)')
    add(
        '--warmup',
        type=_positive,
        default=2,
        help='steps before the first turn (default: %(default)s)',
    )
    add(
        '--only',
        default='',
        metavar='TEXT',
        help="measure cases with TEXT in 'group: case', and their peers",
    )
    add('--no-memory', action='store_true', help='measure time only')
    add('--out', type=Path, default=RESULTS / f'{name}.json', help='default: %(default)s')
    return parser


def add_linears(parser: argparse.ArgumentParser) -> None:
    """Add the option of scripts whose models can be measured with either kind of linear layers."""
    parser.add_argument(
        '--linears',
        nargs='+',
        choices=list(LINEARS),
        default=['plain'],
        help="nn.Linear, OneDNNLinear, or both: of all models, the peer's included (plain)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected an integer of at least 1, got {text!r}')
    return int(text)


# A run


def run(groups: Iterable[Group], options: argparse.Namespace) -> dict:
    """Measure groups, write the JSON file and print the table.

    Returns:
        The content of the file. Seconds are those of one step; `ratio` is the time divided by that
        of the peer.
    """
    groups = select(groups, options.only)
    torch.set_num_threads(options.threads)
    report = {
        'benchmark': options.name,
        'started': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'options': vars(options),
        'machine': describe_machine(options),
        'memory': None if options.no_memory else PEAK_MEMORY[options.device],
    }
    # Memory is measured first: it is fast, and fails early if a case cannot be built.
    peaks = {} if options.no_memory else peak_memories(groups, options)
    report['groups'] = [summarise(group, time_in_turns(group, options), peaks) for group in groups]
    report['versions'] = describe_versions()
    write_json(report, options.out)
    log(f'written to {options.out}\n')
    print(markdown(report))
    return report


def select(groups: Iterable[Group], substring: str) -> list[Group]:
    """Select the cases whose 'group: case' contains the substring, and their peers."""
    groups = list(groups)
    names = [group.name for group in groups]
    if len(set(names)) < len(names):
        raise ValueError(f'the names of groups must differ, got {names}')
    selected = []
    for group in groups:
        wanted = {case.name for case in group.cases if substring in f'{group.name}: {case.name}'}
        if wanted:
            cases = [case for case in group.cases if case.name in wanted | {group.peer}]
            selected.append(replace(group, cases=cases))
    if not selected:
        labels = [f'  {group.name}: {case.name}' for group in groups for case in group.cases]
        raise SystemExit('\n'.join([f'--only {substring!r} is in none of', *labels]))
    return selected


def time_in_turns(group: Group, options: argparse.Namespace) -> dict[str, list[float]]:
    """Time the cases of a group; return name -> seconds of a step, one value per round."""
    log(f'time of {group.name} ')
    turns = {}
    for case in group.cases:
        step = build(case)
        for _ in range(options.warmup):
            step()
        turns[case.name] = _turn(step, options.threads)
    seconds = interleave(turns, options.rounds)
    log('\n')
    return seconds


def build(case: Case) -> Step:
    """Build the step of a case, with the same random numbers for every case."""
    torch.manual_seed(0)
    return case.build()


def _turn(step: Step, threads: int) -> Callable[[], float]:
    """Create a function that times a step and returns its seconds.

    The timer waits for the GPU. It first runs the step without measuring, which fills the caches,
    and finds the number of repetitions if a single step is too short.
    """
    timer = Timer('step()', globals={'step': step}, num_threads=threads)
    return lambda: timer.blocked_autorange(min_run_time=TURN_SECONDS).median


def interleave(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each of `turns` once per round; each round begins with the next one of them."""
    names = list(turns)
    results = {name: [] for name in names}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(turns[name]())
        log('.')
    return results


def summarise(
    group: Group, seconds: Mapping[str, Sequence[float]], peaks: Mapping[tuple[str, str], int]
) -> dict:
    """Summarise a group for the report; ratios are computed within each round."""
    cases = [
        {
            'name': case.name,
            'seconds': spread(seconds[case.name]),
            'ratio': spread(np.divide(seconds[case.name], seconds[group.peer])),
            'peak_memory_bytes': peaks.get((group.name, case.name)),
            'seconds_of_rounds': seconds[case.name],
        }
        for case in group.cases
    ]
    return {'name': group.name, 'peer': group.peer, 'cases': cases}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Compute minimum, quartiles and median."""
    quantiles = np.quantile(values, (0, 0.25, 0.5, 0.75)).tolist()
    return dict(zip(('min', 'q25', 'median', 'q75'), quantiles, strict=True))


# Memory


def peak_memories(
    groups: Iterable[Group], options: argparse.Namespace
) -> dict[tuple[str, str], int]:
    """Measure every case; return (name of the group, name of the case) -> bytes."""
    peaks = {}
    for group in groups:
        for case in group.cases:
            log(f'memory of {group.name}: {case.name}\n')
            peaks[group.name, case.name] = peak_memory(case, options.device, options.threads)
    return peaks


def peak_memory(case: Case, device: str, threads: int) -> int:
    """Measure the peak memory in bytes of building a case and a few steps, in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as child:
        try:
            return child.submit(_peak_memory_here, case, device, threads).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f'the process that measured the memory of {case.name!r} was killed, most likely '
                'because the machine has too little: make the case smaller, or pass --no-memory'
            ) from error


def _peak_memory_here(case: Case, device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    before = peak_rss()
    step = build(case)
    for _ in range(MEMORY_STEPS):
        step()
    return torch.cuda.max_memory_allocated() if device == 'cuda' else peak_rss() - before


def peak_rss() -> int:
    """Return the peak resident memory of this process so far, in bytes.

    On Linux a child process inherits ru_maxrss, so the child of a large process would show no
    growth. VmHWM is not inherited.
    """
    status = Path('/proc/self/status')
    found = re.search(r'VmHWM:\s*(\d+) kB', status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# Records


def describe_machine(options: argparse.Namespace) -> dict:
    """Describe the machine and its load, before the benchmark runs."""
    cpuinfo = Path('/proc/cpuinfo')
    model = re.search(r'model name\s*: (.*)', cpuinfo.read_text()) if cpuinfo.exists() else None
    return {
        'cpu': model[1] if model else platform.processor() or platform.machine(),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cores': os.cpu_count(),
        'threads': options.threads,
        'memory_bytes': os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'),
        'gpu': torch.cuda.get_device_name() if options.device == 'cuda' else None,
        'load_average': list(os.getloadavg()),
    }


def describe_versions() -> dict[str, str | None]:
    """Return the versions of imported packages (None if not imported), and the commit."""
    names = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmvitlin')
    commit = _git('rev-parse', '--short=12', 'HEAD')
    return {
        'python': platform.python_version(),
        **{name: getattr(sys.modules.get(name), '__version__', None) for name in names},
        'cuda': torch.version.cuda,
        'commit': commit and commit + (' with changes' if _git('status', '--porcelain') else ''),
    }


def _git(*arguments: str) -> str | None:
    """Return the output of git; None without git, a repository or a commit."""
    try:
        return subprocess.run(
            ['git', *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(report: dict, path: Path) -> None:
    """Write the report atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(report, indent=2, default=str) + '\n')


def markdown(report: dict) -> str:
    """Format the report as a line about machine and versions, and a table."""
    machine, versions = report['machine'], report['versions']
    circumstances = [
        machine['gpu'] or machine['cpu'],
        f'{machine["threads"]} threads on {machine["cores"]} cores',
        f'load {machine["load_average"][0]:.1f} before',
        *(f'{name} {version}' for name, version in versions.items() if version),
        report['started'],
    ]
    lines = [
        ', '.join(circumstances),
        '',
        '| setting | case | ms | middle half | min | time / peer | middle half | peak MiB |',
        '|---|---|--:|--:|--:|--:|--:|--:|',
    ]
    for group in report['groups']:
        for case in group['cases']:
            seconds, ratio, peak = case['seconds'], case['ratio'], case['peak_memory_bytes']
            is_peer = case['name'] == group['peer']
            cells = [
                group['name'],
                case['name'],
                _short(seconds['median'] * 1e3),
                f'{_short(seconds["q25"] * 1e3)} - {_short(seconds["q75"] * 1e3)}',
                _short(seconds['min'] * 1e3),
                'peer' if is_peer else f'**{ratio["median"]:.2f}**',
                '' if is_peer else f'{ratio["q25"]:.2f} - {ratio["q75"]:.2f}',
                '' if peak is None else f'{peak / MEBIBYTE:.0f}',
            ]
            lines.append(f'| {" | ".join(cells)} |')
    if report['memory']:
        lines += ['', f'Peak memory: {report["memory"]}, each case in a process of its own.']
    return '\n'.join(lines)


def _short(value: float) -> str:
    """Format a number with three significant digits, without an exponent."""
    return f'{float(f"{value:.3g}"):g}'


def log(text: str) -> None:
    """Print progress to stderr, so that stdout has only the table."""
    print(text, end='', file=sys.stderr, flush=True)
