"""Time and memory side by side: what every script in this folder is made of.

A `Case` builds a step, a `Group` sets cases against a named peer, `run` measures groups. Cases are
timed in turns, round after round, because a shared machine drifts: two turns of one round meet the
same machine, so their ratio holds where seconds do not. Peak memory is read in a process of its
own, where no other case has been.
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

from mmvitlin.checkpoints.atomic_backend import AtomicLocalBackend
from mmvitlin.layers import use_onednn_linears

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'work_dirs' / 'benchmarks'
TURN_SECONDS = 0.1  # a turn lasts at least this long, so that a short step is timed many times
MEMORY_STEPS = 3  # the second training step is the first to hold an optimiser's state throughout
MEBIBYTE = 2**20
PEAK_MEMORY = {'cpu': 'growth of peak RSS', 'cuda': 'torch.cuda.max_memory_allocated'}

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row of a table.

    Args:
        name: what is measured.
        build: makes the step to measure, models and inputs included. It travels to another
            process: a function of a module, or `functools.partial` of one.
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
    """Cases of one setting, and the name of the one that the others are compared with."""

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
    """A forward pass of the model on random images of `shape`, without gradients."""
    model = build_model().to(device)
    model.eval()
    images = torch.randn(*shape, device=device)
    return torch.inference_mode()(lambda: model(images))


def training(build_model: Callable[[], nn.Module], shape: Sequence[int], device: str) -> Step:
    """Forward, backward from random gradients of every output, and a step of AdamW.

    The gradients come from outside since a mean would not do: that of a LayerNorm's output hardly
    depends on its input, and the backward pass would calculate with numbers next to zero.
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
    """The model with its linear layers on oneDNN."""
    return use_onednn_linears(build_model(*args))


# What --linears names -> what it adds to the name of a model.
LINEARS = {'plain': '', 'onednn': ', oneDNN linears'}


def with_linears(
    models: Mapping[str, Callable[..., nn.Module]], kinds: Sequence[str]
) -> dict[str, Callable[..., nn.Module]]:
    """Names -> builders of all models with each kind of linear layers: ours and the peer alike."""
    return {
        name + LINEARS[kind]: build if kind == 'plain' else partial(onednn, build)
        for kind in kinds
        for name, build in models.items()
    }


def peer_with(name: str, kinds: Sequence[str]) -> str:
    """The name of the peer: with plain linear layers where these are measured."""
    return name + LINEARS['plain' if 'plain' in kinds else kinds[0]]


# Options


def option_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options common to all benchmarks; a script may add its own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(name=name)
    add = parser.add_argument
    add('--device', choices=list(PEAK_MEMORY), default='cpu')
    add('--threads', type=_positive, default=cores, help=f'of torch on the CPU ({cores})')
    add('--rounds', type=_positive, default=12, help='turns of each case (%(default)s)')
    add('--warmup', type=_positive, default=2, help='steps before the first turn (%(default)s)')
    add('--only', default='', metavar='TEXT', help="found in 'group: case'; peers always stay")
    add('--no-memory', action='store_true', help='measure time only')
    add('--out', type=Path, default=RESULTS / f'{name}.json', help='(%(default)s)')
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
    """Measure the groups as the options say, write the JSON file, print the table.

    Returns:
        What the file holds. Seconds are those of one step; `ratio` is the time over the peer's.
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
    # Memory comes first: it is soon done, and shows whether every case builds and fits.
    peaks = {} if options.no_memory else peak_memories(groups, options)
    report['groups'] = [summarise(group, time_in_turns(group, options), peaks) for group in groups]
    report['versions'] = describe_versions()
    write_json(report, options.out)
    log(f'written to {options.out}\n')
    print(markdown(report))
    return report


def select(groups: Iterable[Group], substring: str) -> list[Group]:
    """The groups with those cases whose 'group: case' contains the substring, and their peers."""
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
    """Seconds of a step of each case, by its name, one value a round."""
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
    """The case's step, with the same random numbers for every case."""
    torch.manual_seed(0)
    return case.build()


def _turn(step: Step, threads: int) -> Callable[[], float]:
    """A function that times the step and returns the seconds of one.

    The timer waits for the GPU. It first runs the step unmeasured, which takes the caches back from
    the case before, and finds how many steps to time as one where a single one is too short.
    """
    timer = Timer('step()', globals={'step': step}, num_threads=threads)
    return lambda: timer.blocked_autorange(min_run_time=TURN_SECONDS).median


def interleave(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each of `turns` once a round, each round beginning with the next one of them."""
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
    """A group's part of the report; ratios are taken within a round, then summed up."""
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
    """Minimum, quartiles and median."""
    quantiles = np.quantile(values, (0, 0.25, 0.5, 0.75)).tolist()
    return dict(zip(('min', 'q25', 'median', 'q75'), quantiles, strict=True))


# Memory


def peak_memories(
    groups: Iterable[Group], options: argparse.Namespace
) -> dict[tuple[str, str], int]:
    """Peak memory in bytes of every case, by the names of its group and its own."""
    peaks = {}
    for group in groups:
        for case in group.cases:
            log(f'memory of {group.name}: {case.name}\n')
            peaks[group.name, case.name] = peak_memory(case, options.device, options.threads)
    return peaks


def peak_memory(case: Case, device: str, threads: int) -> int:
    """Bytes that building the case and a few steps take at most, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as child:
        try:
            return child.submit(_peak_memory_here, case, device, threads).result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                f'the process that measured the memory of {case.name!r} was killed, most likely '
                'because none was left: make the case smaller, or pass --no-memory'
            ) from error


def _peak_memory_here(case: Case, device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    before = peak_rss()
    step = build(case)
    for _ in range(MEMORY_STEPS):
        step()
    return torch.cuda.max_memory_allocated() if device == 'cuda' else peak_rss() - before


def peak_rss() -> int:
    """The most bytes of memory that this process has held so far.

    Linux hands ru_maxrss on from the process that starts another: a child of a big parent would
    seem to grow by nothing. VmHWM starts anew.
    """
    status = Path('/proc/self/status')
    found = re.search(r'VmHWM:\s*(\d+) kB', status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# Records


def describe_machine(options: argparse.Namespace) -> dict:
    """What the numbers depend on besides the code; taken before the machine gets busy with us."""
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
    """Versions of what was imported, None for what was not, and the commit of this checkout."""
    names = ('torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmvitlin')
    commit = _git('rev-parse', '--short=12', 'HEAD')
    return {
        'python': platform.python_version(),
        **{name: getattr(sys.modules.get(name), '__version__', None) for name in names},
        'cuda': torch.version.cuda,
        'commit': commit and commit + (' with changes' if _git('status', '--porcelain') else ''),
    }


def _git(*arguments: str) -> str | None:
    """What git says, None where there is no git, no repository or no commit."""
    try:
        return subprocess.run(
            ['git', *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_json(report: dict, path: Path) -> None:
    """Write the report; a file of that name holds the old report until the new one is complete."""
    AtomicLocalBackend().put_text(json.dumps(report, indent=2, default=str) + '\n', path)


def markdown(report: dict) -> str:
    """The report as a line of circumstances and a table."""
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
    """Three digits that count, and never an exponent for a time that anybody would wait for."""
    return f'{float(f"{value:.3g}"):g}'


def log(text: str) -> None:
    """Progress goes to stderr, so that stdout is the table and nothing else."""
    print(text, end='', file=sys.stderr, flush=True)
